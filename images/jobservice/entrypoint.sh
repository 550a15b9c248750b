#!/bin/sh
# Entry point of the image: migrations, then gunicorn on port 5000.
exec python3 -m jobservice
