"""Run the institution's connection to the hub: Flower's node, its relays and their supervision.

This room can open nothing. It imports no module that could open a sealed message, read a row or load a key, so that a
fault in Flower, or in code that the hub sends, reaches nothing private. It carries sealed bytes to the agent's socket.
Import from its modules: a name imported here would load Flower into every command.
"""

__all__: list[str] = []
