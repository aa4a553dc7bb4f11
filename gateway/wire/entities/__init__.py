"""Entities as values: what requests ask for, what databases hold, what messages carry. Room: wire; pure."""
