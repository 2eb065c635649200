from setuptools import setup

setup()  # pyproject.toml says what the distribution is and needs
