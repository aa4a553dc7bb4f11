"""How long tests wait for what must come.

A machine that is shared stands still for seconds. A time-out whose only purpose is to end a hang must be longer than that, or it
fails a test of something else; what is fast costs nothing by it. Where time is the claim itself, a test says its own.
"""

HANG_S = 60.0
"""After so long what was waited for never comes: ten times the longest stand-still seen, half of what a test may take."""
FOREIGN_S = 2 * HANG_S
"""The same for browsers, engines, compilers and programs on other stacks: they start processes by the dozen, and wait for each other."""
FOREIGN_TEST_S = 420
"""What a test that runs them may take: three such waits, and what lies between them."""
