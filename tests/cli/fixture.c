/* SPDX-License-Identifier: MIT */
/* A program whose functions stand in for call sites: dumps made by make_dump name their addresses. */
int cache_insert(int n)
{
	return n + 1;
}

int cache_evict(int n)
{
	return n * 3;
}

int read_all(int n)
{
	return cache_insert(n) + cache_evict(n);
}

int main(int argc, char **argv)
{
	(void)argv;
	return read_all(argc) == 0;
}
