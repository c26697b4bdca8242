"""Exports for the web: a plan and the native executor as WebAssembly, and pages that run them."""
