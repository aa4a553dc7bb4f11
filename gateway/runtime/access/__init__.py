"""Access control: keys, tokens, grants in use. Room: runtime. The rules are in ``core/``; the doors see a ``Gate``.

Source: ``docs/ACCESS.md``.
"""
