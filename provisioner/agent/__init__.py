"""The agent: what runs in one-shots on a host. The standard library and pymysql only; `protocol.py` is shared."""
