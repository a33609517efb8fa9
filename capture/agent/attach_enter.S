/* SPDX-License-Identifier: MIT */
/*
 * Runs agent_attach_run on a thread that stood anywhere, and leaves no trace in it: own stack, signals blocked meanwhile (but those of faults),
 * flags, extended registers and what the C calling convention keeps are as before. The other registers (rax, rcx, rdx,
 * rsi, rdi, r8 to r11) are given back by the attacher's stub at `leave`, which begins with a system call instruction: so
 * the thread finds its way back even when the attacher is gone. One at a time.
 */
	.text
	.globl	agent_attach_enter
	.hidden	agent_attach_enter
	.type	agent_attach_enter, @function
agent_attach_enter:
	movq	%rsp, saved_rsp(%rip)
	leaq	own_stack_end(%rip), %rsp
	pushfq
	cld
	movl	$14, %eax		/* rt_sigprocmask(SIG_SETMASK, all, &saved_mask, 8) */
	movl	$2, %edi
	leaq	most_signals(%rip), %rsi
	leaq	saved_mask(%rip), %rdx
	movl	$8, %r10d
	syscall
	movl	$-1, %eax		/* all the features there are */
	movl	$-1, %edx
	xsave64	extended(%rip)
	pushq	$0			/* 16-byte alignment */
	call	agent_attach_run
	popq	%rax
	movl	$-1, %eax
	movl	$-1, %edx
	xrstor64 extended(%rip)
	movl	$14, %eax
	movl	$2, %edi
	leaq	saved_mask(%rip), %rsi
	xorl	%edx, %edx
	movl	$8, %r10d
	syscall
	popfq
	movq	saved_rsp(%rip), %rsp
	movl	$39, %eax		/* getpid: what the attacher waits for */
	jmp	*silt_agent_attach+40(%rip)
	.size	agent_attach_enter, .-agent_attach_enter

	.section .rodata
	.balign	8
most_signals:			/* but SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV: see inject.c */
	.quad	~(1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10)

	.bss
	.balign	64
extended:
	.zero	16384			/* SILT_AGENT_XSTATE */
	.balign	16
own_stack:
	.zero	65536
own_stack_end:
saved_rsp:
	.zero	8
saved_mask:
	.zero	8
	.section .note.GNU-stack,"",@progbits
