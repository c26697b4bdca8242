"""Diagnosis of wrong gradients: patterns in the numbers, and their causes in the code under test."""
