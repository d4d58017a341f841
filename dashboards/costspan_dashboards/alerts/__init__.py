"""Alerts: pure rules, stored states, notifications."""
