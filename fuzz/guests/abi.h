/* What every guest here has of docs/abi.md: the info page, message lines, and the start. A guest defines `serve`, which does
   not return, and has its own function records in `functions`. None needs a C library. */

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { READY = 1, RETURN = 2, HOST_CALL = 3 };
enum { CALL = 1, REPLY = 2, FAILURE = 3 };
enum { DONE = 0, FAILED = 1 };

struct line { u64 sequence; u32 kind, function, length, status; u64 needed; };
struct info {
    u64 magic;
    u32 major, minor;
    void (*ring)(void);
    volatile struct line *host, *guest;
    const volatile char *inbound;
    u64 inbound_len;
    volatile char *outbound;
    u64 outbound_len, generation;
    volatile char *output;
    u64 output_len;
};

static void serve(const struct info *info);

static u64 system_call(const u64 *words) {
    register u64 r10 __asm__("r10") = words[4];
    register u64 r8 __asm__("r8") = words[5];
    register u64 r9 __asm__("r9") = words[6];
    u64 result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(words[0]), "D"(words[1]), "S"(words[2]), "d"(words[3]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* Sends a message, and returns when the host has answered. */
static void send(const struct info *info, struct line message) {
    *info->guest = message;
    info->ring();
}

/* The stack at the start: arguments, environment, auxiliary vector. */
__attribute__((used)) static void begin(const u64 *stack) {
    const u64 *auxiliary = stack + 1 + stack[0] + 1;
    while (*auxiliary++) {}
    while (auxiliary[0] != 0x414d5001)
        auxiliary += 2;
    const struct info *info = (const struct info *)auxiliary[1];
    send(info, (struct line){0, READY, 0, 0, 0, 0});
    serve(info);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n ud2");

