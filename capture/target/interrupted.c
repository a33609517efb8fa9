/* SPDX-License-Identifier: MIT */
/*
 * Most system calls that are interrupted by a stop go on afterwards: the kernel leaves a restart code in the result
 * register while the thread is stopped. Some do not (signal(7), "Interruption of system calls and library functions by stop
 * signals"): they return EINTR although no handler has run, and programs are not prepared for it. They get the restart
 * code that means "again, unless a handler runs first" from us, which is what they would do without a stop. Their timeouts begin
 * anew. A call that has done a part of its work returns that part instead, so beginning again repeats nothing.
 */
#include "capture/target/interrupted.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

static bool read_registers(pid_t tid, struct user_regs_struct *ret)
{
	struct iovec iov = { ret, sizeof(*ret) };

	return !ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) && iov.iov_len == sizeof(*ret);
}

#if defined(__x86_64__)
#define RESTART_NOHAND (-514) /* ERESTARTNOHAND, include/linux/errno.h: never seen by programs */

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static bool may_begin_again(uint64_t number)
{
	switch (number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_rt_sigtimedwait:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_msgsnd:
	case SYS_msgrcv:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
	/* Of inotify descriptors, and of sockets with SO_RCVTIMEO or SO_SNDTIMEO. */
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
		return true;
	default:
		return false;
	}
}

bool silt_interrupted_restart(pid_t tid, struct user_regs_struct *ret)
{
	struct iovec iov = { ret, sizeof(*ret) };

	if (!read_registers(tid, ret))
		return false;
	if ((int64_t)ret->rax != -EINTR || (int64_t)ret->orig_rax < 0 || !may_begin_again(ret->orig_rax))
		return true;
	ret->rax = (uint64_t)(int64_t)RESTART_NOHAND;
	return !ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov);
}
#else
bool silt_interrupted_restart(pid_t tid, struct user_regs_struct *ret)
{
	return read_registers(tid, ret);
}
#endif
