"""The conformance suite: the numbered cases of the contract, tested over real sockets against any target."""
