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

namespace {

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

class ResponseCache {
public:
	std::shared_ptr<const Response> find(const std::string &url)
	{
		std::lock_guard<std::mutex> hold(lock_);
		auto entry = entries_.find(url);
		return entry == entries_.end() ? nullptr : entry->second;
	}

	std::shared_ptr<const Response> remember(const std::string &url, std::string_view page)
	{
		auto response = std::make_shared<const Response>(page);
		std::lock_guard<std::mutex> hold(lock_);
		make_room();
		by_age_.push_back(url);
		entries_[url] = response;
		return response;
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
	std::deque<std::string> by_age_;
	std::unordered_map<std::string, std::shared_ptr<const Response>> entries_;
};

inline std::string table_row(unsigned order, unsigned line)
{
	return "<tr><td>" + std::to_string(order) + "</td><td>item " + std::to_string(line * 7919 % 1000) +
	       "</td></tr>\n";
}

std::string render(const std::string &url, unsigned order)
{
	std::string page = "<html><body><h1>" + url + "</h1><table>\n";
	for (unsigned line = 0; line < 40 + order % 60; line++)
		page += table_row(order, line);
	return page + "</table></body></html>\n";
}

class Server {
public:
	std::size_t handle(unsigned order)
	{
		std::string url = "/orders?id=" + std::to_string(order);
		auto response = cache_.find(url);
		if (!response)
			response = cache_.remember(url, render(url, order));
		return response->size;
	}

private:
	ResponseCache cache_;
};

/* Ten requests every ten milliseconds; every third one for an order seen before. */
void serve(Server &server, unsigned first, Clock::time_point end)
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

} // namespace

int main(int argc, char **argv)
{
	auto start = Clock::now();
	auto end = start + milliseconds(argc > 1 ? std::atoi(argv[1]) : 6000);
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
