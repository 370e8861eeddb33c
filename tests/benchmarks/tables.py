"""Tables as Markdown."""


def show(title: str, rows: list[dict[str, str]]) -> None:
    """Print a table; columns are the keys of the first row."""
    columns = list(rows[0])
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row[column] for column in columns) + " |")
    print(end="", flush=True)
