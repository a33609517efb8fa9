/* SPDX-License-Identifier: MIT */
/* The demo's patient: a page server whose cache is meant to hold 256 pages and forgets to evict. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include <unistd.h>

#include "silt.h"

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

struct Response {
	explicit Response(std::string_view page) : size(page.size()), body(new char[page.size()])
	{
		std::memcpy(body.get(), page.data(), size);
	}

	std::size_t size;
	std::unique_ptr<char[]> body;
};

/* Pages by order number. Whoever asks is told how many bytes went out. */
class ResponseCache {
public:
	bool send(unsigned order, std::size_t &sent)
	{
		std::lock_guard<std::mutex> hold(lock_);
		auto entry = entries_.find(order);
		if (entry == entries_.end())
			return false;
		sent += entry->second.size;
		return true;
	}

	void remember(unsigned order, std::string_view page)
	{
		std::lock_guard<std::mutex> hold(lock_);
		make_room();
		by_age_.push_back(order);
		entries_.emplace(order, Response(page));
	}

private:
	/* The bug: the oldest page leaves the queue, but stays in the table. */
	void make_room()
	{
		if (by_age_.size() >= capacity)
			by_age_.pop_front();
	}

	static constexpr std::size_t capacity = 256;
	std::mutex lock_;
	std::deque<unsigned> by_age_;
	std::unordered_map<unsigned, Response> entries_;
};

static inline std::string table_row(unsigned order, unsigned line)
{
	return "<tr><td>" + std::to_string(order) + "</td><td>item " + std::to_string(line * 7919 % 1000) +
	       "</td></tr>\n";
}

static std::string render(unsigned order)
{
	std::string page = "<html><body><h1>Order " + std::to_string(order) + "</h1><table>\n";
	for (unsigned line = 0; line < 40 + order % 60; line++)
		page += table_row(order, line);
	return page + "</table></body></html>\n";
}

class Server {
public:
	std::size_t handle(unsigned order)
	{
		std::size_t sent = 0;
		while (!cache_.send(order, sent))
			cache_.remember(order, render(order));
		return sent;
	}

private:
	ResponseCache cache_;
};

/* Ten requests every ten milliseconds; every third one for an order seen before. */
static void serve(Server &server, unsigned first, Clock::time_point end)
{
	unsigned order = first;
	std::size_t sent = 0;

	while (Clock::now() < end) {
		for (unsigned i = 0; i < 10; i++)
			sent += server.handle(i % 3 == 2 ? first : order++);
		std::this_thread::sleep_for(milliseconds(10));
	}
	std::printf("leaky: a worker sent %zu bytes\n", sent);
}

int main(int argc, char **argv)
{
	auto end = Clock::now() + milliseconds(argc > 1 ? std::atoi(argv[1]) : 6000);
	Server server;
	std::vector<std::thread> workers;

	std::printf("leaky: pid %d\n", static_cast<int>(getpid()));
	std::fflush(stdout);
	for (unsigned i = 0; i < 2; i++)
		workers.emplace_back(serve, std::ref(server), i * 1000000, end);
	std::this_thread::sleep_for(milliseconds(500));
	silt_mark("warmed up");
	for (auto &worker : workers)
		worker.join();
}
