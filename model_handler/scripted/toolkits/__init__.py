"""Stand-ins for toolkit modules that handlers import, for images without the toolkits.

This directory is last on an isolated process's path: packages of the image or of the artifact's requirements
with these names take precedence.
"""
