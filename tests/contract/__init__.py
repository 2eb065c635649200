"""The conformance suite: the numbered cases of the contract, spoken over real sockets to any target."""
