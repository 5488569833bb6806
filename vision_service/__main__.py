"""`python -m vision_service`."""

from vision_service.server import main

main()
