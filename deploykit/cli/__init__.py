"""The command line: parse, call one public function, print what it returns. Only this room knows typer and rich."""
