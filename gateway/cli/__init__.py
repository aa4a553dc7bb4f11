__all__: list[str] = []
def main() -> int:
    return 0
