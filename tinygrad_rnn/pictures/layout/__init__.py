"""Layouts: functions from a diagram to positions."""
