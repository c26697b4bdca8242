"""Layouts: functions from a diagram to places."""
