// SPDX-License-Identifier: MIT
// A program with known numbers of objects of known types. usage: types N
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <unistd.h>

namespace shop {
struct Item {
	virtual ~Item() {}
	long a[4];
};
template <class T> struct Box : Item {
	T t[8];
};
struct Other {
	virtual void f() {}
	long z;
};
struct Both : Other, Item {
	long k[10];
};
}

namespace {
struct Hidden {
	virtual ~Hidden() {}
	int x[30];
};
}

struct Pure {
	virtual int go() = 0;
	virtual ~Pure() {}
};
struct Impl : Pure {
	int go() override { return 1; }
	char c[50];
};
struct Plain { // no vtable: no type
	void (*call)();
	long x[40];
};

static void *volatile kept;

template <class T> static void make(int n)
{
	for (int i = 0; i < n; i++)
		kept = new T();
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 10;
	struct Local {
		virtual ~Local() {}
		long q;
	};

	make<shop::Item>(n);
	make<shop::Box<double>>(2 * n);
	make<shop::Both>(3 * n);
	make<Hidden>(4 * n);
	make<Impl>(5 * n);
	make<Local>(6 * n);
	for (int i = 0; i < n; i++) {
		Plain *p = new Plain();

		p->call = [] {};
		kept = p;
		kept = new std::runtime_error("x");
	}
	if (write(1, "ready\n", 6) != 6)
		return 1;
	pause();
}
