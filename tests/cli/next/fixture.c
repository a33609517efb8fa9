/* SPDX-License-Identifier: MIT */
/* The next version of ../fixture.c: an edit above moved all lines and addresses, and one function is new. */
int brand_new(int n)
{
	return n - 1;
}

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
	return cache_insert(n) + cache_evict(n) + brand_new(n);
}

int main(int argc, char **argv)
{
	(void)argv;
	return read_all(argc) == 0;
}
