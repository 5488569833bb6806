"""How the services are run: images, charts, and the one-machine launcher."""
