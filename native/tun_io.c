/* A TUN device as a burst interface: one packet a read, one a write. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

static int tun_receive(struct dp_io *io, struct dp_area *area, struct dp_burst *b, unsigned n) {
    unsigned i = 0;
    while (i < n && area->octets - area->used >= DP_PACKET_ROOM) {
        uint8_t *data = area->base + area->used;
        ssize_t octets = read(io->poll_fd, data, DP_IP_MAX);
        if (octets < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN)
                atomic_store_explicit(&io->ready, false, memory_order_relaxed);
            return i != 0 || errno == EAGAIN ? (int)i : -errno;
        }
        b[i++] = (struct dp_burst){
            .data = dp_area_take(area, (size_t)octets + DP_ESP_TAILROOM),
            .octets = (uint32_t)octets,
            .interface = io->number,
        };
    }
    return (int)i;
}

static int tun_send(struct dp_io *io, const struct dp_burst *b, unsigned n) {
    for (unsigned i = 0; i < n;) {
        if (write(io->poll_fd, b[i].data, b[i].octets) >= 0)
            i++;
        else if (errno != EINTR)
            return i != 0 ? (int)i : -errno;
    }
    return (int)n;
}

static void tun_close(struct dp_io *io) {
    close(io->poll_fd);
}

static const struct dp_io_ops tun_ops = {.receive = tun_receive, .send = tun_send, .close = tun_close};

struct dp_io *dp_tun_open(uint32_t interface, int fd) {
    struct dp_io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return NULL;
    io->ops = &tun_ops;
    io->number = interface;
    io->poll_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (io->poll_fd < 0 || fcntl(io->poll_fd, F_SETFL, fcntl(io->poll_fd, F_GETFL) | O_NONBLOCK) != 0) {
        int error = errno;
        if (io->poll_fd >= 0)
            close(io->poll_fd);
        free(io);
        errno = error;
        return NULL;
    }
    atomic_store_explicit(&io->ready, true, memory_order_relaxed);
    return io;
}
