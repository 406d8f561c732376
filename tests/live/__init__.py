"""Tests with real sockets and a real ``twistd`` process; nothing here imports a reactor."""
