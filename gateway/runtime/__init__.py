"""Start, drain, signals, workers, and the parts wired together. Room: runtime. Every room but ``cli`` may enter, and nothing but ``cli`` asks for it."""
