/* SPDX-License-Identifier: MIT */
/* Waits of waits.c that take more words: io_uring, and large registers held while no system call is made. Where the kernel or the
 * processor lacks something it is a mere sleep. */
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "waits_more.h"

static long merely(int seconds)
{
	struct timespec t = { seconds, 0 };

	return nanosleep(&t, NULL);
}

/* One timeout is queued; io_uring_enter waits for its completion. */
long wait_uring(int seconds)
{
	struct io_uring_params p = { 0 };
	struct __kernel_timespec after = { .tv_sec = seconds };
	long fd = syscall(SYS_io_uring_setup, 4, &p);
	uint8_t *sq, *cq;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;

	if (fd < 0)
		return merely(seconds);
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqe), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return -1;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->addr = (uint64_t)(uintptr_t)&after;
	sqe->len = 1;
	sqe->user_data = 77;
	((uint32_t *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((uint32_t *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	/* In two calls, as liburing waits: one that submits and waits returns what it submitted when its wait is interrupted. */
	if (syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0) != 1 ||
	    syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 0)
		return -1;
	cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return cqe->user_data == 77 && cqe->res == -ETIME ? 0 : -1;
}

#define TURNS "50000000" /* some hundredths of a second, with everything in registers */

/* AVX-512: vector and mask registers that only XSAVE's later components hold. */
__attribute__((target("avx512f,avx512bw"))) static int hold_vectors(void)
{
	static uint64_t in[16][8] __attribute__((aligned(64))), out[16][8] __attribute__((aligned(64)));
	uint64_t mask = 0x123456789abcdef5ull, mask_out = 0;

	for (unsigned i = 0; i < 128; i++)
		in[i / 8][i % 8] = 0x0101010101010101ull * (i + 1);
	__asm__ volatile("kmovq %[mask], %%k3\n"
			 "vmovdqu64 0x000(%[in]), %%zmm16\n vmovdqu64 0x040(%[in]), %%zmm17\n"
			 "vmovdqu64 0x080(%[in]), %%zmm31\n vmovdqu64 0x0c0(%[in]), %%zmm2\n"
			 "mov $" TURNS ", %%rcx\n 1: dec %%rcx\n jnz 1b\n"
			 "vmovdqu64 %%zmm16, 0x000(%[out])\n vmovdqu64 %%zmm17, 0x040(%[out])\n"
			 "vmovdqu64 %%zmm31, 0x080(%[out])\n vmovdqu64 %%zmm2, 0x0c0(%[out])\n"
			 "kmovq %%k3, %[mask_out]\n"
			 : [mask_out] "=&r"(mask_out)
			 : [mask] "r"(mask), [in] "r"(in), [out] "r"(out)
			 : "rcx", "memory", "xmm2", "xmm16", "xmm17", "xmm31", "k3");
	return mask_out == mask && !memcmp(in, out, 4 * 64) ? 0 : -1;
}

long wait_vectors(int seconds)
{
	time_t end = time(NULL) + seconds + 1;

	if (!__builtin_cpu_supports("avx512bw"))
		return merely(seconds);
	while (time(NULL) < end)
		if (hold_vectors())
			return -1;
	return 0;
}

/* AMX: eight kilobytes, larger than the page that debuggers write registers back from. */
static int hold_tiles(void)
{
	static uint8_t config[64] __attribute__((aligned(64))), in[2][1024], out[2][1024];

	memset(config, 0, sizeof(config));
	config[0] = 1; /* palette */
	for (int t = 0; t < 8; t++) {
		config[16 + 2 * t] = 64; /* bytes of a row */
		config[48 + t] = 16;	 /* rows */
	}
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i / 1024][i % 1024] = (uint8_t)(i * 7 + 1);
	memset(out, 0, sizeof(out));
	__asm__ volatile("mov $64, %%edx\n"
			 "ldtilecfg (%[config])\n"
			 "tileloadd (%[in0], %%rdx, 1), %%tmm0\n tileloadd (%[in1], %%rdx, 1), %%tmm7\n"
			 "mov $" TURNS ", %%rcx\n 1: dec %%rcx\n jnz 1b\n"
			 "tilestored %%tmm0, (%[out0], %%rdx, 1)\n tilestored %%tmm7, (%[out1], %%rdx, 1)\n"
			 "tilerelease\n"
			 :
			 : [config] "r"(config), [in0] "r"(in[0]), [in1] "r"(in[1]), [out0] "r"(out[0]), [out1] "r"(out[1])
			 : "rcx", "rdx", "memory");
	return memcmp(in, out, sizeof(in)) ? -1 : 0;
}

long wait_tiles(int seconds)
{
	time_t end = time(NULL) + seconds + 1;

	if (syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XFEATURE_XTILEDATA */))
		return merely(seconds);
	while (time(NULL) < end)
		if (hold_tiles())
			return -1;
	return 0;
}
