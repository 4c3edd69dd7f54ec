"""The corpus of recorded exchanges, and what each of them means, read without any of the gateway's code.

`recording` loads an exchange and says how its bytes travel; `wires` has one module per provider API, which reads the
recorded answer and makes the request that a client would have sent; `judge` compares both with what the gateway did;
`exempt` reads `exemptions.toml`, the only place that says what is not judged; `table` prints what came out. Not here: the
server that plays recordings (`replay`) and the gateway (`gateway`), which other tests use, too.
"""
