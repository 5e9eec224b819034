/* A guest that says what it is told: the argument of `run: fn(Vec<u8>) -> Vec<u8>` is a script of steps, each a byte that says
   which it is and what that needs. At its end the guest returns nothing, as it should. */

struct message { unsigned char answers_call; signed char off; u32 kind, function, length, status; u64 needed; }
    __attribute__((packed));
struct text { u16 at; unsigned char length; } __attribute__((packed));

/* Writes what the next text of the script says into an area, and returns what follows it. */
static const volatile char *write_to(volatile char *area, const volatile char *script) {
    const struct text text = *(const volatile struct text *)script;
    script += sizeof text;
    for (u32 at = 0; at < text.length; at++)
        area[text.at + at] = script[at];
    return script + text.length;
}

static void serve(const struct info *info) {
    u64 host_calls = 0;
    for (;;) {
        u64 sequence = info->host->sequence;
        const volatile char *next = info->inbound + 4, *end = info->inbound + info->host->length;
        int returned = 0;
        while (next < end && !returned) {
            switch (*next++) {
            case 0: {
                const struct message message = *(const volatile struct message *)next;
                next += sizeof message;
                u64 right = message.answers_call ? sequence : host_calls + 1;
                send(info, (struct line){right + message.off, message.kind, message.function, message.length,
                                         message.status, message.needed});
                returned = info->host->kind == CALL;
                host_calls += !returned;
                break;
            }
            case 1:
                next = write_to(info->outbound, next);
                break;
            case 2:
                next = write_to(info->output, next);
                break;
            case 3: /* how much of the output area holds text */
                *(volatile u32 *)((volatile char *)info->guest + 32) = *(const volatile u32 *)next;
                next += 4;
                break;
            case 4: { /* `getpid` */
                const u64 words[7] = {39};
                system_call(words);
                break;
            }
            case 5:
                *(volatile char *)0 = 0;
                break;
            default: { /* `exit_group` */
                const u64 words[7] = {231, 3};
                system_call(words);
            }
            }
        }
        if (!returned) {
            *(volatile u32 *)info->outbound = 0;
            send(info, (struct line){sequence, RETURN, 0, 4, DONE, 0});
        }
    }
}
