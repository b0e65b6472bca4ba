/* recv, recvmsg, send and sendmsg that time out once, at a given byte of all received and sent. In
   this program the library calls these instead of libc's. */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

void interrupt_before(int byte);
int interrupted(void);

static size_t before, moved;
static bool done;

void interrupt_before(int byte)
{
    before = byte;
    moved = 0;
    done = false;
}

int interrupted(void)
{
    return done;
}

/* The number of bytes that may move now. 0 means the time-out, which takes longer than the
   library's limits in these tests. */
static size_t room(size_t size)
{
    if (done)
        return size;
    size_t most = before - moved;
    if (size < most)
        return size;
    if (most == 0) {
        done = true;
        usleep(1500);
    }
    return most;
}

static ssize_t count(ssize_t n)
{
    moved += n > 0 ? n : 0;
    return n;
}

ssize_t recv(int socket, void *bytes, size_t size, int flags)
{
    size_t most = room(size);
    if (size > 0 && most == 0) {
        errno = EAGAIN;
        return -1;
    }
    return count(syscall(SYS_recvfrom, socket, bytes, most, flags, NULL, NULL));
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
    for (size_t i = 0; i < message->msg_iovlen; i++)
        if (message->msg_iov[i].iov_len > 0)
            return recv(socket, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, flags);
    return 0;
}

ssize_t send(int socket, const void *bytes, size_t size, int flags)
{
    size_t most = room(size);
    if (size > 0 && most == 0) {
        errno = EAGAIN;
        return -1;
    }
    return count(syscall(SYS_sendto, socket, bytes, most, flags, NULL, 0));
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    for (size_t i = 0; i < message->msg_iovlen; i++)
        if (message->msg_iov[i].iov_len > 0)
            return send(socket, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, flags);
    return 0;
}
