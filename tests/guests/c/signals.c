/* What a program can do with signals and prints of it, to be compared with what the kernel does. Its argument is the name of
   a case, or "random" and a seed. */

#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static int *volatile nowhere = (int *)8;
static sigjmp_buf jump;

static void install(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, NULL))
        printf("sigaction %d: %d\n", signal, errno);
}

static void show_mask(const char *what) {
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    printf("%s:", what);
    for (int signal = 1; signal <= 64; signal++)
        if (signal != 32 && signal != 33 && sigismember(&set, signal) == 1)
            printf(" %d", signal);
    puts("");
}

static void show(int signal, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    printf("signal %d: %d %d %d", signal, info->si_signo, info->si_errno, info->si_code);
    if (info->si_code <= 0 && info->si_code != SI_TIMER)
        printf(", by itself: %d", info->si_pid == getpid());
    if (info->si_code == SI_QUEUE || info->si_code == SI_TIMER)
        printf(", value %d", info->si_value.sival_int);
    printf(", flags %lx\n", at->uc_flags);
    count++;
}

static void leave(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    /* The flag of alignment checks is not the kernel's to clear. */
    __asm__ volatile("pushfq\n\tandl $~0x40000, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    printf("signal %d: code %d, trap %lld", signal, info->si_code, registers[REG_TRAPNO]);
    siglongjmp(jump, 1);
}

static int sent(void) {
    install(SIGUSR1, show, 0);
    install(SIGUSR2, show, 0);
    install(SIGRTMIN + 1, show, 0);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR2);
    kill(0, 0);
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 77});
    siginfo_t info = {.si_code = SI_QUEUE, .si_pid = getpid(), .si_value.sival_int = 5};
    printf("%ld\n", syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info));
    printf("%d %d\n", kill(getpid(), 65), errno);
    printf("%d\n", count);
    return 0;
}

static void nested(int signal, siginfo_t *info, void *context) {
    printf("in %d\n", signal);
    show_mask("mask");
    if (signal == SIGUSR1)
        raise(SIGUSR2);
    printf("out of %d\n", signal);
}

static int nesting(void) {
    install(SIGUSR1, nested, 0);
    install(SIGUSR2, nested, SA_NODEFER);
    raise(SIGUSR1);
    struct sigaction action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    show_mask("after");
    sigset_t both;
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    raise(SIGUSR2), raise(SIGUSR2), raise(SIGUSR1), kill(getpid(), SIGUSR2);
    sigpending(&both);
    printf("pending %d %d\n", sigismember(&both, SIGUSR1), sigismember(&both, SIGUSR2));
    sigprocmask(SIG_UNBLOCK, &both, NULL);
    puts("unblocked");
    return 0;
}

static char *stack_start;
static size_t stack_size = 65536;

static void on_stack(int signal, siginfo_t *info, void *context) {
    char here;
    stack_t stack, other = {.ss_sp = stack_start, .ss_size = stack_size};
    sigaltstack(NULL, &stack);
    int is_on = &here >= stack_start && &here < stack_start + stack_size;
    printf("on the stack: %d, flags %d, size %zu", is_on, stack.ss_flags, stack.ss_size);
    /* What one that is set where there is none any more (SS_AUTODISARM) leaves behind is not the same on all kernels. */
    int set = stack.ss_flags == SS_DISABLE ? -2 : sigaltstack(&other, NULL);
    stack_t *saved = &((ucontext_t *)context)->uc_stack;
    printf(", set %d, saved %d %zu, aligned %d\n", set, saved->ss_flags, saved->ss_size, (int)((uintptr_t)context % 16));
    if (signal == SIGUSR1)
        raise(SIGUSR2);
}

static int alternate(void) {
    stack_start = malloc(stack_size);
    for (int flags = 0; flags < 2; flags++) {
        stack_t stack = {.ss_sp = stack_start, .ss_size = stack_size, .ss_flags = flags ? 1 << 31 : 0};
        printf("%d\n", sigaltstack(&stack, NULL));
        install(SIGUSR1, on_stack, SA_ONSTACK);
        install(SIGUSR2, on_stack, SA_ONSTACK);
        raise(SIGUSR1);
        install(SIGUSR1, on_stack, 0);
        raise(SIGUSR1);
        sigaltstack(NULL, &stack);
        printf("after: flags %x, size %zu\n", stack.ss_flags, stack.ss_size);
    }
    stack_t none = {.ss_flags = SS_DISABLE}, small = {.ss_sp = stack_start, .ss_size = 100};
    printf("%d %d", sigaltstack(&none, NULL), sigaltstack(&small, NULL));
    printf(" %d\n", errno == ENOMEM);
    return 0;
}

static int flags(void) {
    install(SIGUSR1, show, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    printf("default again: %d, flags %x\n", action.sa_handler == SIG_DFL, action.sa_flags & ~0x04000000);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    raise(SIGUSR1);
    puts("never here");
    return 0;
}

static void redirect(int signal, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    /* Whether a page is there is the kernel's own business. */
    long trap = at->uc_mcontext.gregs[REG_TRAPNO];
    printf("signal %d, code %d, address %lx, trap %ld, error %lld", signal, info->si_code, (long)info->si_addr & 0xfff,
        trap, at->uc_mcontext.gregs[REG_ERR] & ~1ll);
    printf(", cr2 %llx\n", trap == 14 ? at->uc_mcontext.gregs[REG_CR2] & 0xfff : 0);
    extern char after_fault[];
    at->uc_mcontext.gregs[REG_RIP] = (greg_t)after_fault;
    at->uc_mcontext.gregs[REG_RBX] = 42;
}

__attribute__((noinline, noclone)) static long fault_and_continue(void *where) {
    long found;
    __asm__ volatile("movl $1, (%1)\n\tmovq $7, %%rbx\n.globl after_fault\nafter_fault: movq %%rbx, %0\n"
                     : "=r"(found) : "r"(where) : "rbx", "memory");
    return found;
}

static int changed(void) {
    install(SIGSEGV, redirect, 0);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++)
        printf("%ld\n", fault_and_continue(page + 0x123 + i));
    printf("%ld\n", fault_and_continue((void *)0x18));
    munmap(page, 4096);
    printf("%ld\n", fault_and_continue(page + 8));
    printf("%ld\n", fault_and_continue((void *)(1ul << 60)));
    mprotect(page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096, PROT_NONE);
    printf("%ld\n", fault_and_continue(page + 16));
    return 0;
}

static int faults(void) {
    volatile int zero = 0;
    volatile double real_zero = 0, sum = 0;
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++)
        install(signals[i], leave, SA_NODEFER);
    for (volatile int kind = 0; kind < 9; kind++) {
        if (sigsetjmp(jump, 1)) {
            __asm__ volatile("pushfq\n\tandl $~0x40000, (%%rsp)\n\tpopfq" ::: "memory", "cc");
            fedisableexcept(FE_ALL_EXCEPT);
            printf(" of %d\n", kind);
            continue;
        }
        switch (kind) {
        case 0: zero = 1 / zero; break;
        case 1: __asm__ volatile("ud2"); break;
        case 2: __asm__ volatile("hlt"); break;
        case 3: *nowhere = 1; break;
        case 4: __asm__ volatile("int3"); break;
        case 5: feenableexcept(FE_DIVBYZERO); sum = 1 / real_zero; break;
        case 6: feclearexcept(FE_ALL_EXCEPT); feenableexcept(FE_INVALID); sum = real_zero / real_zero; break;
        case 7: __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" ::: "memory", "cc"); break;
        case 8: __asm__ volatile("pushfq\n\torl $0x40000, (%%rsp)\n\tpopfq\n\tmovl 1(%%rsp), %%eax" ::: "memory", "cc", "eax"); break;
        }
        printf("no signal of %d, %d\n", kind, sum > 0);
    }
    return 0;
}

static void clobber(int signal, siginfo_t *info, void *context) {
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm7\n\tmovdqa %%xmm0, %%xmm15\n\tfninit\n\tfldpi"
                     ::: "xmm0", "xmm7", "xmm15");
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vpcmpeqd %%xmm1, %%xmm1, %%xmm1\n\tvinsertf128 $1, %%xmm1, %%ymm1, %%ymm1\n\tvmovaps %%ymm1, %%ymm7"
                         ::: "xmm1", "xmm7");
    uint32_t mxcsr = 0x1fff;
    __asm__ volatile("ldmxcsr %0" :: "m"(mxcsr));
    struct _libc_fpstate *state = ((ucontext_t *)context)->uc_mcontext.fpregs;
    uint32_t magic = ((uint32_t *)state)[464 / 4], size = ((uint32_t *)state)[480 / 4];
    printf("xmm7 %08x, mxcsr %x, x87 %x, extended %d, ends %d\n", state->_xmm[7].element[1], state->mxcsr, state->cwd,
        magic == FP_XSTATE_MAGIC1, *(uint32_t *)((char *)state + size) == FP_XSTATE_MAGIC2);
    state->_xmm[3].element[0] = 0x1234;
    count++;
}

static int vectors(void) {
    install(SIGUSR1, clobber, 0);
    uint32_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8] = {0}, third = 0;
    double top = 0;
    pid_t me = getpid();
    long result = SYS_tgkill;
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vmovups (%3), %%ymm7\n\tfld1\n\tsyscall\n\tfstpl %1\n\tvmovups %%ymm7, (%4)\n\tmovd %%xmm3, %2"
                         : "+a"(result), "=m"(top), "=r"(third) : "r"(in), "r"(out), "D"(me), "S"(me), "d"(SIGUSR1)
                         : "rcx", "r11", "memory", "xmm7", "xmm3");
    printf("%ld %g %x:", result, top, third);
    for (int i = 0; i < 8; i++)
        printf(" %x", out[i]);
    printf(" %d\n", count);
    return 0;
}

static void tick(int signal, siginfo_t *info, void *context) {
    count++;
}

static void every(long micros) {
    struct itimerval value = {{0, micros}, {0, micros}};
    setitimer(ITIMER_REAL, &value, NULL);
}

/* Goes off again where the machine is so slow that the wait has not begun by then. */
static const struct itimerval soon = {{0, 20000}, {0, 20000}}, never;

static int waits(void) {
    install(SIGALRM, tick, 0);
    struct timespec second = {1, 0}, rest = {9, 9};
    int pipes[2];
    char byte;
    pipe(pipes);
    int got;
#define CASE(call) \
    (setitimer(ITIMER_REAL, &soon, NULL), errno = 0, got = (call), printf("%s: %d %d\n", #call, got, errno), \
        setitimer(ITIMER_REAL, &never, NULL))
    CASE(nanosleep(&second, &rest));
    printf("rest %d\n", rest.tv_sec == 0 && rest.tv_nsec > 0);
    CASE(clock_nanosleep(CLOCK_MONOTONIC, 0, &second, &rest));
    CASE(pause());
    CASE(read(pipes[0], &byte, 1));
    struct pollfd entry = {pipes[0], POLLIN, 0};
    CASE(poll(&entry, 1, 1000));
    CASE(poll(&entry, 1, -1));
    CASE(ppoll(&entry, 1, NULL, NULL));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipes[0], &set);
    struct timeval left = {1, 0};
    CASE(select(pipes[0] + 1, &set, NULL, NULL, &left));
    printf("set %d, left %d\n", FD_ISSET(pipes[0], &set) != 0, left.tv_sec == 0 && left.tv_usec > 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
    CASE(epoll_wait(epoll, &event, 1, 1000));
    sigset_t none, alarm;
    sigemptyset(&none);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    CASE(sigsuspend(&none));
    sigprocmask(SIG_BLOCK, &alarm, NULL);
    CASE(sigwaitinfo(&alarm, NULL));
    CASE(sigtimedwait(&alarm, NULL, &second));
    CASE(poll(&entry, 1, 60));
    sigtimedwait(&alarm, NULL, &(struct timespec){0, 0});
    CASE(ppoll(&entry, 1, &second, &none));
    CASE(sigsuspend(&none));
    show_mask("mask");
    printf("ticks: %d\n", count >= 12);
    install(SIGALRM, tick, SA_RESTART);
    sigprocmask(SIG_UNBLOCK, &alarm, NULL);
    CASE(nanosleep(&second, NULL));
    CASE(poll(&entry, 1, 1000));
    CASE(pause());
    return 0;
}

static int input(void) {
    char byte;
    install(SIGALRM, tick, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    ssize_t got = read(0, &byte, 1);
    printf("%zd %d %d\n", got, errno == EINTR, count > 0);
    return 0;
}

static int readable(int file, int milliseconds) {
    struct pollfd entry = {file, POLLIN, 0};
    int found = poll(&entry, 1, milliseconds);
    return found == 1 && entry.revents == POLLIN;
}

static int timer_files(void) {
    uint64_t ticks = 77;
    struct itimerspec value = {{0, 10000000}, {0, 10000000}}, now;
    int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        int file = timerfd_create(clocks[i], TFD_NONBLOCK | TFD_CLOEXEC);
        printf("unset %zd %d", read(file, &ticks, 8), errno);
        printf(" %d", readable(file, 0));
        printf(" set %d\n", timerfd_settime(file, 0, &value, NULL));
        printf("readable %d", readable(file, 1000));
        usleep(35000);
        ssize_t got = read(file, &ticks, 8);
        printf(" %zd %d", got, ticks >= 3 && ticks < 50);
        printf(" short %zd %d\n", read(file, &ticks, 7), errno);
        timerfd_gettime(file, &now);
        printf("interval %ld, left %d\n", now.it_interval.tv_nsec, now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10000000);
        printf("write %zd %d\n", write(file, &ticks, 8), errno);
        close(file);
    }
    int file = timerfd_create(CLOCK_MONOTONIC, 0), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = 5}, found = {0};
    printf("add %d", epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event));
    printf(" none %d", epoll_wait(epoll, &found, 1, 0));
    timerfd_settime(file, 0, &value, NULL);
    printf(" one %d", epoll_wait(epoll, &found, 1, -1));
    printf(" %d", found.data.u32);
    printf(" again %d", epoll_wait(epoll, &found, 1, 0));
    ssize_t got = read(file, &ticks, 8);
    printf(" %zd", got);
    printf(" next %d\n", epoll_wait(epoll, &found, 1, -1));
    struct itimerspec once = {{0, 0}, {0, 5000000}};
    timerfd_settime(file, 0, &once, &now);
    printf("was %ld", now.it_interval.tv_nsec);
    got = read(file, &ticks, 8);
    printf(" blocking %zd %d\n", got, (int)ticks);
    clock_gettime(CLOCK_MONOTONIC, &once.it_value);
    once.it_value.tv_sec -= once.it_value.tv_sec > 1;
    timerfd_settime(file, TFD_TIMER_ABSTIME, &once, NULL);
    got = read(file, &ticks, 8);
    printf("past %zd %d\n", got, (int)ticks);
    install(SIGALRM, tick, 0);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    got = read(file, &ticks, 8);
    printf("interrupted %zd %d %d\n", got, errno, count);
    printf("bad %d %d %d\n", timerfd_create(99, 0), timerfd_create(CLOCK_MONOTONIC, 7), timerfd_settime(1, 0, &once, NULL));
    return 0;
}

static int signal_files(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int file = signalfd(-1, &set, SFD_NONBLOCK);
    struct signalfd_siginfo info[4];
    printf("none %zd %d", read(file, info, sizeof info), errno);
    printf(" %d\n", readable(file, 0));
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 6}, found;
    epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 11});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 12});
    printf("readable %d, epoll %d\n", readable(file, -1), epoll_wait(epoll, &found, 1, -1));
    ssize_t got = read(file, info, sizeof info);
    for (int i = 0; i < got / (ssize_t)sizeof *info; i++)
        printf("%d %d %d %d\n", info[i].ssi_signo == SIGUSR1, info[i].ssi_code, info[i].ssi_pid == getpid(), info[i].ssi_int);
    printf("empty %d short %zd", readable(file, 0), read(file, info, 100));
    printf(" %d\n", errno);
    struct itimerval soon = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    printf("alarm %d", readable(file, 1000));
    got = read(file, info, sizeof info);
    printf(" %zd %d %d\n", got, info[0].ssi_signo, info[0].ssi_code);
    int blocking = signalfd(-1, &set, SFD_CLOEXEC);
    setitimer(ITIMER_REAL, &soon, NULL);
    got = read(blocking, info, sizeof *info);
    printf("blocking %zd %d\n", got, info[0].ssi_signo);
    sigemptyset(&set);
    printf("changed %d\n", signalfd(file, &set, 0) == file);
    raise(SIGUSR1);
    printf("not ours %d\n", readable(file, 0));
    printf("bad %d %d\n", signalfd(1, &set, 0), signalfd(-1, &set, 77));
    return 0;
}

static int restart_pipe;

static void feed(int signal, siginfo_t *info, void *context) {
    if (count < 3 && ++count == 3)
        write(restart_pipe, "!", 1);
}

static int restarts(void) {
    install(SIGALRM, feed, SA_RESTART);
    int pipes[2];
    char byte = '?';
    pipe(pipes);
    restart_pipe = pipes[1];
    every(5000);
    ssize_t got = read(pipes[0], &byte, 1);
    every(0);
    printf("%zd %c %d\n", got, byte, count);
    return 0;
}

static int timers(void) {
    install(SIGALRM, tick, 0);
    install(SIGVTALRM, tick, 0);
    install(SIGPROF, tick, 0);
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        count = 0;
        struct itimerval value = {{0, 3000}, {0, 3000}}, now;
        int set = setitimer(which, &value, NULL);
        while (count < 5)
            ;
        printf("set %d\n", set);
        getitimer(which, &now);
        printf("interval %ld, armed %d\n", (long)now.it_interval.tv_usec, now.it_value.tv_usec > 0);
        memset(&value, 0, sizeof value);
        printf("off %d", setitimer(which, &value, &now));
        printf(" %ld\n", (long)now.it_interval.tv_usec);
    }
    printf("alarm %u", alarm(10));
    printf(" %u", alarm(5));
    printf(" %u\n", alarm(0));
    printf("%d", setitimer(3, &(struct itimerval){0}, NULL));
    printf(" %d\n", errno == EINVAL);
    return 0;
}

static siginfo_t first;

static void keep(int signal, siginfo_t *info, void *context) {
    if (!count++)
        first = *info;
}

static int created(void) {
    install(SIGUSR1, keep, 0);
    install(SIGUSR2, tick, 0);
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID};
    for (int i = 0; i < 4; i++) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7 + i};
        printf("create %d", timer_create(clocks[i], &event, &timer));
        struct itimerspec value = {{0, 2000000}, {0, 2000000}}, old;
        count = 0;
        int set = timer_settime(timer, 0, &value, NULL);
        while (count < 4)
            ;
        printf(" set %d\n", set);
        printf("signal %d, code %d, value %d\n", first.si_signo, first.si_code, first.si_value.sival_int);
        timer_gettime(timer, &value);
        printf("interval %ld, armed %d\n", value.it_interval.tv_nsec, value.it_value.tv_nsec > 0);
        struct itimerspec off = {{0, 0}, {0, 0}};
        timer_settime(timer, 0, &off, &old);
        printf("was %ld, delete %d", old.it_interval.tv_nsec, timer_delete(timer));
        printf(" %d\n", timer_delete(timer));
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    now.tv_nsec += 10000000;
    now.tv_sec += now.tv_nsec / 1000000000;
    now.tv_nsec %= 1000000000;
    struct itimerspec value = {{0, 0}, now};
    count = 0;
    timer_settime(timer, TIMER_ABSTIME, &value, NULL);
    while (count == 0)
        ;
    printf("absolute %d\n", count);
    timer_gettime(timer, &value);
    printf("left %ld %ld\n", value.it_value.tv_sec, value.it_value.tv_nsec);
    value.it_value.tv_nsec = 1000000000;
    printf("%d", timer_settime(timer, 0, &value, NULL));
    printf(" %d\n", errno == EINVAL);
    return 0;
}

static int overrun(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 3};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec value = {{0, 1000000}, {0, 1000000}};
    timer_settime(timer, 0, &value, NULL);
    usleep(30000);
    siginfo_t info;
    int signal = sigwaitinfo(&set, &info);
    printf("%d %d %d %d\n", signal, info.si_code, info.si_value.sival_int, info.si_overrun > 10);
    printf("%d\n", timer_getoverrun(timer) == info.si_overrun);
    return 0;
}

static int queue(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 4; i++)
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i});
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 9});
    raise(SIGUSR1), raise(SIGUSR1), kill(getpid(), SIGUSR1), raise(SIGSEGV), raise(SIGHUP);
    siginfo_t info;
    struct timespec none = {0, 0};
    for (int signal; (signal = sigtimedwait(&set, &info, &none)) > 0;)
        printf("%d %d %d\n", signal - (signal > 32 ? SIGRTMIN : 0), info.si_code, signal > 32 ? info.si_value.sival_int : 0);
    printf("%d\n", errno == EAGAIN);
    return 0;
}

static int broken_pipe(void) {
    int pipes[2];
    pipe(pipes);
    close(pipes[0]);
    install(SIGPIPE, show, 0);
    printf("%zd", write(pipes[1], "x", 1));
    printf(" %d\n", errno == EPIPE);
    signal(SIGPIPE, SIG_IGN);
    printf("%zd", write(pipes[1], "x", 1));
    printf(" %d\n", errno == EPIPE);
    fflush(stdout);
    signal(SIGPIPE, SIG_DFL);
    write(pipes[1], "x", 1);
    return 0;
}

static volatile int is_endless = 1;

static int stack_overflow(int depth) {
    volatile char frame[4096];
    frame[0] = depth;
    return (is_endless ? stack_overflow(depth + 1) : 0) + frame[0];
}

static void overflown(int signal, siginfo_t *info, void *context) {
    write(1, "overflown\n", 10);
    if (count)
        _exit(3);
    siglongjmp(jump, 1);
}

static int overflow(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    install(SIGSEGV, overflown, SA_ONSTACK);
    if (!sigsetjmp(jump, 1))
        return stack_overflow(0);
    puts("back");
    fflush(stdout);
    count = 1;
    return stack_overflow(0);
}

static int unhandled(void) {
    install(SIGSEGV, show, 0);
    stack_overflow(0);
    return 0;
}

static void segv_in_handler(int signal, siginfo_t *info, void *context) {
    write(1, "handler\n", 8);
    *nowhere = 1;
}

static int twice(void) {
    install(SIGSEGV, segv_in_handler, 0);
    *nowhere = 1;
    return 0;
}

static int blocked_fault(void) {
    install(SIGSEGV, show, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *nowhere = 1;
    return 0;
}

static int ignored_fault(void) {
    signal(SIGSEGV, SIG_IGN);
    *nowhere = 1;
    return 0;
}

static int abort_handled(void) {
    install(SIGABRT, show, 0);
    setvbuf(stdout, NULL, _IONBF, 0);
    abort();
}

static void default_again(int signal_number, siginfo_t *info, void *context) {
    write(1, "once\n", 5);
    signal(signal_number, SIG_DFL);
}

static int once(void) {
    install(SIGSEGV, default_again, 0);
    *nowhere = 1;
    return 0;
}

static int alarm_ends(void) {
    struct itimerval soon = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    while (is_endless)
        ;
    return 0;
}

/* Calls by chance, with results that depend on nothing but the seed. */

static uint32_t state;

static uint32_t chance(uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
}

static int kinds[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGSEGV, SIGALRM, 34, 35, 36};
static int depth;

static int any_signal(void) {
    return kinds[chance(sizeof kinds / sizeof *kinds)];
}

static void any_set(sigset_t *set) {
    sigemptyset(set);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (chance(2))
            sigaddset(set, kinds[i]);
}

static void step(void);

static void any_handler(int signal, siginfo_t *info, void *context) {
    printf("[%d code %d", signal, info->si_code);
    show_mask("");
    if (++depth < 4)
        for (int i = chance(3); i > 0; i--)
            step();
    if (chance(4) == 0) {
        sigset_t *set = &((ucontext_t *)context)->uc_sigmask;
        for (unsigned i = 0; i < 3; i++)
            (chance(2) ? sigaddset : sigdelset)(set, any_signal());
    }
    depth--;
    puts("]");
}

static void step(void) {
    int signal = any_signal();
    struct sigaction action = {0};
    sigset_t set;
    siginfo_t info;
    switch (chance(9)) {
    case 0:
    case 1:
        action.sa_sigaction = any_handler;
        action.sa_flags = SA_SIGINFO | (chance(2) ? SA_NODEFER : 0) | (chance(4) ? 0 : SA_RESETHAND) | (chance(2) ? SA_ONSTACK : 0);
        any_set(&action.sa_mask);
        printf("handle %d %x: %d\n", signal, action.sa_flags, sigaction(signal, &action, NULL));
        break;
    case 2:
        action.sa_handler = SIG_IGN;
        printf("ignore %d: %d\n", signal, sigaction(signal, &action, NULL));
        break;
    case 3:
        any_set(&set);
        int how = chance(3);
        printf("mask %d: %d\n", how, sigprocmask(how, &set, NULL));
        break;
    case 4:
        sigpending(&set);
        printf("pending:");
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (sigismember(&set, kinds[i]))
                printf(" %d", kinds[i]);
        puts("");
        break;
    case 5:
        any_set(&set);
        int got = sigtimedwait(&set, &info, &(struct timespec){0, 0});
        printf("taken %d %d\n", got, got > 0 ? info.si_code : errno);
        break;
    case 6:
        printf("kill %d\n", signal);
        kill(getpid(), signal);
        break;
    case 7:
        printf("raise %d\n", signal);
        syscall(SYS_tgkill, getpid(), getpid(), signal);
        break;
    case 8:
        printf("queue %d\n", signal);
        sigqueue(getpid(), signal, (union sigval){.sival_int = chance(100)});
        break;
    }
    sigaction(signal, NULL, &action);
    printf("%d: %d %x\n", signal, action.sa_handler == SIG_DFL ? 0 : action.sa_handler == SIG_IGN ? 1 : 2,
        action.sa_flags & ~0x04000000);
}

static int random_steps(unsigned seed) {
    state = seed;
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct sigaction action = {.sa_sigaction = any_handler, .sa_flags = SA_SIGINFO};
        if (chance(8))
            sigaction(kinds[i], &action, NULL);
    }
    for (int i = 0; i < 200; i++) {
        step();
        fflush(stdout);
    }
    return 0;
}

/* Returns from handlers with frames in which bytes were changed. Whatever happens, the host goes on. */
static void spoil(int signal, siginfo_t *info, void *context) {
    unsigned char *frame = (unsigned char *)context;
    for (int i = 1 + chance(6); i > 0; i--) {
        uint32_t at = chance(1280);
        frame[at] = chance(4) ? chance(256) : 0xff;
    }
}

static int hostile(unsigned seed) {
    state = seed;
    install(SIGUSR1, spoil, 0);
    for (int i = 0; i < 20; i++)
        raise(SIGUSR1);
    return 0;
}

static int made_up(unsigned seed) {
    state = seed;
    static unsigned char frame[4096] __attribute__((aligned(64)));
    for (unsigned i = 0; i < sizeof frame; i++)
        frame[i] = chance(3) ? chance(256) : 0;
    __asm__ volatile("movq %0, %%rsp\n\tmovl $15, %%eax\n\tsyscall" :: "r"(frame + 64 * chance(8)) : "memory");
    return 0;
}

/* A timer whose signal waits already, not for the timer: the wait is as long as it is. */
static int coalesced(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGALRM);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &often, NULL);
    struct timespec time = {0, 50000000};
    printf("%d\n", nanosleep(&time, NULL));
    return 0;
}

/* A timer beyond the last moment that a clock shows. */
static int latest(void) {
    struct timespec time = {LONG_MAX, 0};
    nanosleep(&time, NULL);
    signal(SIGALRM, SIG_IGN);
    struct sigaction action = {.sa_sigaction = tick};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    printf("%d\n", pause());
    return 0;
}

int main(int arguments, char **argument) {
    const char *name = arguments > 1 ? argument[1] : "";
    unsigned seed = arguments > 2 ? strtoul(argument[2], NULL, 10) : 0;
#define IS(mode, function) if (!strcmp(name, mode)) return function
    IS("sent", sent());
    IS("nesting", nesting());
    IS("alternate", alternate());
    IS("flags", (setvbuf(stdout, NULL, _IONBF, 0), flags()));
    IS("changed", changed());
    IS("faults", faults());
    IS("vectors", vectors());
    IS("waits", waits());
    IS("restarts", restarts());
    IS("input", input());
    IS("timer-files", timer_files());
    IS("signal-files", signal_files());
    IS("timers", timers());
    IS("created", created());
    IS("overrun", overrun());
    IS("queue", queue());
    IS("broken-pipe", broken_pipe());
    IS("overflow", overflow());
    IS("unhandled", unhandled());
    IS("twice", twice());
    IS("blocked-fault", blocked_fault());
    IS("ignored-fault", ignored_fault());
    IS("abort-handled", abort_handled());
    IS("once", once());
    IS("alarm-ends", alarm_ends());
    IS("coalesced", coalesced());
    IS("latest", latest());
    IS("random", random_steps(seed));
    IS("hostile", hostile(seed));
    IS("made-up", made_up(seed));
    return 99;
}
