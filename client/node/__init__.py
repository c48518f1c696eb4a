"""The Flower node and its relay. They carry sealed messages and can open none."""
