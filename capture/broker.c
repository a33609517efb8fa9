/* SPDX-License-Identifier: MIT */
/* The launcher's capture socket, both ends. */
#include "capture/broker.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define BROKER_MAGIC 0x73694272u
/* Long enough for a dump of hundreds of millions of blocks; an end is needed in case the launcher is stopped. */
#define ANSWER_SECONDS 60

struct request {
	uint32_t magic;
	int32_t pid;
};

struct answer {
	uint32_t magic;
	int32_t code;
	int32_t errnum;
	char msg[400];
};

static socklen_t make_address(const char *name, struct sockaddr_un *ret)
{
	size_t n = strnlen(name, sizeof(ret->sun_path) - 1);

	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path + 1, name, n); /* the leading NUL makes it abstract: no file, gone with the launcher */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}

static void set_timeout(int fd, int option, time_t seconds, suseconds_t us)
{
	struct timeval t = { seconds, us };

	setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t));
}

int silt_broker_listen(const char *name, int *ret_fd, struct silt_error *err)
{
	struct sockaddr_un address;
	socklen_t size = make_address(name, &address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int e;

	if (fd < 0)
		return silt_error_os(err, errno, "cannot create the capture socket");
	if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 8)) {
		e = errno;
		close(fd);
		return silt_error_os(err, e, "cannot listen on the capture socket");
	}
	*ret_fd = fd;
	return 0;
}

int silt_broker_accept(int listen_fd, int *ret_conn, pid_t *ret_pid, struct silt_error *err)
{
	struct request rq = { 0 };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int conn = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (conn < 0)
		return silt_error_os(err, errno, "no capture request");
	/* A client sends at once; one that does not must not hold up the launcher. */
	set_timeout(conn, SO_RCVTIMEO, 0, 100000);
	set_timeout(conn, SO_SNDTIMEO, 1, 0);
	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &size) || (peer.uid != geteuid() && peer.uid != 0) ||
	    recv(conn, &rq, sizeof(rq), 0) != sizeof(rq) || rq.magic != BROKER_MAGIC || rq.pid <= 0) {
		close(conn);
		return silt_error_set(err, SILT_E_NOT_FOUND, "a capture request was refused");
	}
	*ret_conn = conn;
	*ret_pid = rq.pid;
	return 0;
}

int silt_broker_answer(int conn, int fd, const struct silt_error *failure)
{
	struct answer a = { .magic = BROKER_MAGIC };
	struct iovec iov = { &a, sizeof(a) };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *cm;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(int));
	} else {
		a.code = failure ? failure->code : SILT_E_INTERNAL;
		a.errnum = failure ? failure->errnum : 0;
		snprintf(a.msg, sizeof(a.msg), "%.*s", (int)sizeof(a.msg) - 1, failure ? failure->msg : "");
	}
	return sendmsg(conn, &msg, MSG_NOSIGNAL) < 0 ? SILT_E_OS : 0;
}

/* Takes the one descriptor out of an answer; closes any other that a confused peer might have added. */
static int take_fd(struct msghdr *msg)
{
	int found = -1;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(msg); cm; cm = CMSG_NXTHDR(msg, cm)) {
		size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			if (found < 0)
				found = fd;
			else
				close(fd);
		}
	}
	return found;
}

static int receive_answer(int conn, int *ret_fd, struct silt_error *err)
{
	struct answer a = { 0 };
	struct iovec iov = { &a, sizeof(a) };
	union {
		char buf[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	ssize_t n;
	int fd;

	do
		n = recvmsg(conn, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return silt_error_set(err, SILT_E_LIMIT, "the launcher did not answer within %d seconds", ANSWER_SECONDS);
	fd = n > 0 ? take_fd(&msg) : -1;
	if (n == sizeof(a) && a.magic == BROKER_MAGIC && fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	if (n != sizeof(a) || a.magic != BROKER_MAGIC || a.code >= 0)
		return silt_error_set(err, SILT_E_NOT_FOUND, "the launcher refused or ended before it answered");
	a.msg[sizeof(a.msg) - 1] = '\0';
	silt_error_set(err, a.code, "%s", a.msg);
	if (err)
		err->errnum = a.errnum;
	return a.code;
}

int silt_broker_request(const char *name, pid_t pid, int *ret_fd, struct silt_error *err)
{
	struct request rq = { BROKER_MAGIC, pid };
	struct sockaddr_un address;
	socklen_t size = make_address(name, &address);
	int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int rc;

	if (conn < 0)
		return silt_error_os(err, errno, "cannot create a socket");
	set_timeout(conn, SO_RCVTIMEO, ANSWER_SECONDS, 0);
	set_timeout(conn, SO_SNDTIMEO, 5, 0);
	if (connect(conn, (struct sockaddr *)&address, size) || send(conn, &rq, sizeof(rq), MSG_NOSIGNAL) != sizeof(rq))
		rc = silt_error_os(err, errno, "cannot reach the launcher");
	else
		rc = receive_answer(conn, ret_fd, err);
	close(conn);
	return rc;
}
