"""The PostgreSQL home of the DSS, under trio-asyncio: the only room that knows asyncio."""
