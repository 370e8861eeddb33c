"""Tables as Markdown, and the numbers in them."""

import math


def show(title: str, rows: list[dict[str, str]]) -> None:
    """Print a table; columns are the keys of the first row."""
    columns = list(rows[0])
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row[column] for column in columns) + " |")
    print(end="", flush=True)


def number(value: float) -> str:
    """Three digits that matter, without an exponent."""
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"
