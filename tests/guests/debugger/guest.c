/* The guest of the debugger's tests, compiled without optimization. It follows docs/abi.md as far as it has to: every
 * function takes a number and returns one. */

#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#define AT_AMPOULE 0x414d5001

enum { ABI = 1, EXPORT = 2 };

struct record {
    uint32_t size;
    uint16_t kind;
    uint16_t reserved;
    uint64_t value;
    uint32_t name_len;
    uint32_t signature_len;
    char text[64];
};

#define RECORD(variable, kind_, value_, name, signature)                                                          \
    __attribute__((section("ampoule_fns"), used, retain, aligned(8))) static const struct record variable = {     \
        sizeof(struct record), kind_, 0, value_, sizeof(name) - 1, sizeof(signature) - 1, name signature}

#define EXPORT(name) RECORD(export_##name, EXPORT, 0, #name, "fn(u64) -> u64")

RECORD(abi, ABI, (uint64_t)1 << 32, "", "");
EXPORT(total);
EXPORT(spin);
EXPORT(fault);
EXPORT(trap);
EXPORT(divide);
EXPORT(end);
EXPORT(give_up);
EXPORT(wait_forever);
EXPORT(doze);
EXPORT(vectors);
EXPORT(own_code);
EXPORT(steps);
EXPORT(place);

extern const char __start_ampoule_fns[];

struct info_page {
    uint64_t magic;
    uint32_t abi_major, abi_minor;
    void (*entry)(void);
    volatile struct line *host_line, *guest_line;
    const char *inbound;
    uint64_t inbound_len;
    char *outbound;
};

struct line {
    uint64_t sequence;
    uint32_t kind, function, length, status;
    uint64_t needed;
};

enum { READY = 1, RETURN = 2 };

static const struct info_page *info;

struct order {
    uint32_t id;
    double price;
    char name[8];
};

uint64_t sum;

static uint64_t add(uint64_t number) {
    struct order order = {7, 2.5, "lamp"};
    sum += number; /* the line of a breakpoint */
    return order.id;
}

static uint64_t total(uint64_t count) {
    sum = 0;
    for (uint64_t number = 1; number <= count; number++)
        add(number);
    return sum;
}

volatile uint64_t go;
volatile uint64_t spins;

/* Runs until it is stopped, unless somebody changes `go`. */
static uint64_t spin(uint64_t forever) {
    go = forever;
    do
        spins++;
    while (go == 1);
    return go;
}

static uint64_t fault(uint64_t address) {
    *(volatile uint64_t *)address = 1; /* the line of the fault */
    return address;
}

static uint64_t trap(uint64_t number) {
    __asm__ volatile("int3");
    return number + 1;
}

static uint64_t divide(uint64_t by) { return 100 / by; }

static uint64_t end(uint64_t status) { _exit((int)status); }

static uint64_t give_up(uint64_t number) {
    (void)number;
    abort();
}

static uint64_t wait_forever(uint64_t number) {
    pause();
    return number;
}

/* Sleeps for so many milliseconds: how many have passed on its clock. */
static uint64_t doze(uint64_t milliseconds) {
    struct timespec begin, now, time = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (nanosleep(&time, NULL) != 0)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(now.tv_sec - begin.tv_sec) * 1000 + (uint64_t)(now.tv_nsec / 1000000) -
           (uint64_t)(begin.tv_nsec / 1000000);
}

/* Loads a register of 256 bits with the bytes from 1 on, and returns what is in its lowest 8 bytes after the label. */
static uint64_t vectors(uint64_t number) {
    uint8_t bytes[32];
    for (int index = 0; index < 32; index++)
        bytes[index] = (uint8_t)(index + number);
    uint64_t low;
    __asm__ volatile("vmovdqu %1, %%ymm0\n"
                     ".globl vectors_loaded\n"
                     "vectors_loaded: vmovq %%xmm0, %0\n"
                     : "=r"(low)
                     : "m"(bytes)
                     : "xmm0");
    return low;
}

/* The first byte of `add` as the guest sees it; prints it as the system sees it. */
static uint64_t own_code(uint64_t number) {
    const volatile uint8_t *code = (const volatile uint8_t *)add;
    if (write(STDOUT_FILENO, (const void *)code, 1) != 1)
        return number;
    return *code;
}

/* Counts in R8 how many of its instructions were executed: a system call and the growth of the stack are among them. */
__asm__(".text\n"
        ".type steps, @function\n"
        "steps:\n"
        "xor %r8d, %r8d\n"           /* 0 */
        "inc %r8\n"                  /* 3 */
        "inc %r8\n"                  /* 6 */
        "mov $39, %eax\n"            /* 9: getpid */
        "syscall\n"                  /* 14 */
        "inc %r8\n"                  /* 16 */
        "syscall\n"                  /* 19: read(), which fails */
        "inc %r8\n"                  /* 21 */
        "lea -0x80000(%rsp), %r9\n"  /* 24 */
        "incq (%r9)\n"               /* 32: makes the stack grow */
        "add (%r9), %r8\n"           /* 35 */
        "inc %r8\n"                  /* 38 */
        "mov %r8, %rax\n"            /* 41 */
        "steps_end: ret\n"           /* 44 */
        ".globl steps_end\n"
        ".size steps, . - steps\n");
uint64_t steps(uint64_t number);
extern const char steps_end[];

/* Where things are, for debuggers that read no executable. */
static uint64_t place(uint64_t number) {
    const uint64_t places[] = {(uint64_t)&go, (uint64_t)steps, (uint64_t)steps_end, (uint64_t)add, (uint64_t)&sum};
    return places[number];
}

static const struct {
    const struct record *record;
    uint64_t (*function)(uint64_t);
} functions[] = {
    {&export_total, total},       {&export_spin, spin},       {&export_fault, fault},
    {&export_trap, trap},         {&export_divide, divide},   {&export_end, end},
    {&export_give_up, give_up},   {&export_wait_forever, wait_forever},
    {&export_vectors, vectors},   {&export_own_code, own_code}, {&export_steps, steps},
    {&export_place, place},       {&export_doze, doze},
};

static void ring(uint32_t kind, uint64_t sequence, uint32_t function, uint32_t length) {
    *info->guest_line = (struct line){sequence, kind, function, length, 0, 0};
    info->entry();
}

int main(void) {
    info = (const struct info_page *)getauxval(AT_AMPOULE);
    if (!info) /* As a program it reads, and exits with what it has read. */
        return read(STDIN_FILENO, &sum, sizeof sum) == 1 ? (int)sum : 255;
    ring(READY, 0, 0, 0);
    for (;;) {
        const struct line call = *info->host_line;
        for (unsigned index = 0; index < sizeof functions / sizeof *functions; index++) {
            if ((const char *)functions[index].record - __start_ampoule_fns == call.function)
                *(uint64_t *)info->outbound = functions[index].function(*(const uint64_t *)info->inbound);
        }
        ring(RETURN, call.sequence, call.function, 8);
    }
}
