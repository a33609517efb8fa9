// SPDX-License-Identifier: MIT
// A program of deep templates: expression trees by variant and visitor, type-erased pipelines, exceptions, threads.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <variant>
#include <vector>

namespace {

struct Add;
struct Call;
using Node = std::variant<int, std::string, std::unique_ptr<Add>, std::unique_ptr<Call>>;
struct Add {
	Node left, right;
};
struct Call {
	std::string name;
	std::vector<Node> args;
};

Node grow(int depth, unsigned &seed)
{
	seed = seed * 1103515245u + 12345u;
	if (depth == 0)
		return seed & 1u << 16 ? Node(static_cast<int>(seed >> 8)) : Node(std::string(20 + seed % 50, 'x'));
	if (seed & 1u << 17)
		return std::make_unique<Add>(Add{grow(depth - 1, seed), grow(depth - 1, seed)});
	auto call = std::make_unique<Call>();

	call->name = std::string(30, 'f');
	for (unsigned i = 0; i < 1 + seed % 3; i++)
		call->args.push_back(grow(depth - 1, seed));
	return call;
}

std::string print(const Node &node)
{
	struct Printer {
		std::string operator()(int n) const { return std::to_string(n); }
		std::string operator()(const std::string &s) const { return '"' + s + '"'; }
		std::string operator()(const std::unique_ptr<Add> &a) const
		{
			return "(" + print(a->left) + " + " + print(a->right) + ")";
		}
		std::string operator()(const std::unique_ptr<Call> &c) const
		{
			return std::accumulate(c->args.begin(), c->args.end(), c->name,
					       [](std::string all, const Node &n) { return std::move(all) + "," + print(n); });
		}
	};
	return std::visit(Printer{}, node);
}

template <int N, typename... Ts> struct Tower : Tower<N - 1, Ts..., std::map<int, std::vector<std::string>>> {
	template <typename F> static __attribute__((noinline)) void climb(F f)
	{
		Tower<N - 1, Ts..., std::map<int, std::vector<std::string>>>::climb([f](auto &&x) {
			auto kept = std::make_shared<std::tuple<int, std::string>>(N, std::string(40, 't'));

			f(std::forward<decltype(x)>(x) + std::get<1>(*kept));
		});
	}
};
template <typename... Ts> struct Tower<0, Ts...> {
	template <typename F> static void climb(F f) { f(std::string(sizeof...(Ts), 'b')); }
};

struct Failure : std::runtime_error {
	using std::runtime_error::runtime_error;
};

void fail(int depth, std::vector<std::string> &log)
{
	std::string local(50, 'l');

	if (depth == 0)
		throw Failure(local);
	try {
		fail(depth - 1, log);
	} catch (const Failure &f) {
		log.push_back(f.what());
		throw Failure(std::string(f.what()) + local);
	}
}

size_t work(unsigned seed)
{
	size_t result = 0;
	std::vector<std::string> log;
	std::vector<Node> kept;

	for (int i = 0; i < 24; i++) {
		kept.push_back(grow(7, seed));
		result += print(kept.back()).size();
		Tower<12>::climb([&log](auto &&s) { log.push_back(s); });
		try {
			fail(i % 12, log);
		} catch (const std::exception &e) {
			result += std::string(e.what()).size();
		}
		std::ostringstream out;

		for (const auto &line : log)
			out << line << '\n';
		std::regex pattern("(l+)(x|t)?([a-z]{3,5})*");
		std::smatch match;
		std::string text = out.str().substr(0, 300);

		if (std::regex_search(text, match, pattern))
			result += match.size();
		std::sort(log.begin(), log.end(), std::greater<>());
	}
	return result;
}

} // namespace

int main()
{
	size_t results[3] = {0, 0, 0};
	std::vector<std::thread> threads;

	for (unsigned i = 0; i < 3; i++)
		threads.emplace_back([i, &results] { results[i] = work(i * 77 + 1); });
	for (auto &t : threads)
		t.join();
	std::cout << results[0] + results[1] + results[2] + work(5) << '\n';
}
