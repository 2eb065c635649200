"""Checks of model files as data, before the library of their format reads them.

The libraries are written in C++ and trust their files: an index, a size or a type that is wrong makes them
read memory of other models or end the process. Each check raises ModelLoadFailed and says what is wrong.
"""
