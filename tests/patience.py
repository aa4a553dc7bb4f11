"""How long tests wait for what must come.

A machine that is shared stands still for seconds. A time-out whose only purpose is to end a hang must be longer than that, or it
fails a test of something else; what is fast costs nothing by it. Where time is the claim itself, a test says its own.
"""

HANG_S = 120.0
"""After so long what was waited for never comes: three times the longest that a child took to start and to say its first word
on a machine with ten times its work, and less than half of what a test may take."""
FOREIGN_S = HANG_S
"""The same for browsers, engines, compilers and programs on other stacks: they start processes by the dozen, and wait for each other."""
FOREIGN_TEST_S = 420
"""What a test that runs them may take: three such waits, and what lies between them."""
