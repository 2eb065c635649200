"""Modules under the names that handlers import helpers from, where the toolkit itself is not installed.

This directory is the last on an isolated process's path: what the image or the artifact's requirements
bring under these names wins.
"""
