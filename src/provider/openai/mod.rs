//! OpenAI's own dialect, which is also the client's: bytes are forwarded, only what must change is changed.
