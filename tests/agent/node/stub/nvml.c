/* A libnvidia-ml.so.1 that is driven by a text file, for tests of what calls the real one.
 *
 * The file lies beside the library, named like it with ".txt" behind, and is read again when it
 * changed. A line is `<gpu>.<key> = <int>`, `*` for every GPU and `node.<key>` for
 * the library itself; the last line that fits counts, and a GPU's own outweighs `*`. Layouts are
 * those of the Python bindings. Keys without a value are NOT_SUPPORTED, as on hardware that lacks
 * them.
 *
 * node: gpus, init (a return code), event.<n>. GPU: lost, hang_ms, link.<n>, field.<id>,
 * field.<id>.<link>, mig (its mode), mig.<n> = <slices> * 1000 + <GB> of instance n, and the names below. -DNVML_STUB_OLD leaves out what an old library lacks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, LOST = 15 };
enum { GPUS_MAX = 64, INSTANCES_MAX = 8, ENTRIES_MAX = 8192 };
typedef struct { int index; int instance; } Device; /* instance: 0, or of a MIG device its index + 1. */
static Device devices[GPUS_MAX];
static Device instances[GPUS_MAX][INSTANCES_MAX];
static long long delivered;

typedef struct { char name[64]; long long value; } Entry;
static Entry entries[ENTRIES_MAX]; /* By a hash of the name: what a bench measures is not our search. */
static int entries_held;

/* The entry of that name, or the free one that it would have. */
static Entry *entry_of(const char *name) {
    unsigned place = 2166136261u;
    for (const char *at = name; *at; at++) place = (place ^ (unsigned char)*at) * 16777619u;
    for (place %= ENTRIES_MAX; entries[place].name[0] && strcmp(entries[place].name, name);)
        place = (place + 1) % ENTRIES_MAX;
    return &entries[place];
}

/* Reads the file when it is another one than before: changes come as one rename. */
static void refresh(void) {
    static char path[4096];
    static struct stat before;
    struct stat now;
    Dl_info self;
    char line[256];
    FILE *file;
    if (!path[0] && dladdr((void *)refresh, &self)) snprintf(path, sizeof path, "%s.txt", self.dli_fname);
    if (stat(path, &now) || (now.st_ino == before.st_ino && now.st_mtim.tv_nsec == before.st_mtim.tv_nsec
                             && now.st_mtim.tv_sec == before.st_mtim.tv_sec)) return;
    if (!(file = fopen(path, "r"))) return;
    before = now;
    entries_held = 0;
    memset(entries, 0, sizeof entries);
    while (entries_held < ENTRIES_MAX / 2 && fgets(line, sizeof line, file)) {
        Entry read = {0};
        if (sscanf(line, " %63[^= ] = %lld", read.name, &read.value) != 2) continue;
        *entry_of(read.name) = read;
        entries_held++;
    }
    fclose(file);
}

static int find(const char *who, const char *key, long long *value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", who, key);
    Entry *found = entry_of(name);
    if (found->name[0]) *value = found->value;
    return found->name[0] != 0;
}

static int look(const char *who, const char *key, long long *value) {
    return find(who, key, value) || (strcmp(who, "node") && find("*", key, value));
}

static long long node(const char *key, long long otherwise) {
    long long value = otherwise;
    refresh();
    look("node", key, &value);
    return value;
}

/* Hangs and losses first: they concern every call on a GPU. */
static int gpu(Device *device, const char *key, long long *value) {
    char who[16];
    long long number = 0;
    refresh();
    snprintf(who, sizeof who, "%d", device->index);
    if (look(who, "hang_ms", &number) && number > 0) usleep((useconds_t)number * 1000);
    number = 0;
    if (look(who, "lost", &number) && number) return LOST;
    return look(who, key, value) ? OK : UNSUPPORTED;
}

static int gpu_uint(Device *device, const char *key, unsigned *out) {
    long long value = 0;
    int result = gpu(device, key, &value);
    if (result == OK) *out = (unsigned)value;
    return result;
}

static int gpu_text(Device *device, const char *key, const char *format, char *out, unsigned size) {
    long long ignored = 0;
    int result = gpu(device, key, &ignored);
    if (result == LOST) return LOST;
    snprintf(out, size, format, device->index);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)node("init", OK); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stub"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    snprintf(out, size, "999.stub");
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)node("gpus", 0); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    if (index >= GPUS_MAX) return INVALID;
    devices[index].index = (int)index;
    *out = &devices[index];
    return OK;
}
int nvmlDeviceGetMigMode(Device *d, unsigned *current, unsigned *pending) {
    int result = gpu_uint(d, "mig", current);
    *pending = *current;
    return result;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *d, unsigned *out) { (void)d; *out = INSTANCES_MAX; return OK; }
static int instance(Device *d, unsigned n, long long *value) {
    char key[16];
    snprintf(key, sizeof key, "mig.%u", n);
    return gpu(d, key, value);
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *d, unsigned n, Device **out) {
    long long value = 0;
    if (n >= INSTANCES_MAX || instance(d, n, &value) != OK) return NOT_FOUND;
    *out = &instances[d->index][n];
    (*out)->index = d->index;
    (*out)->instance = (int)n + 1;
    return OK;
}
int nvmlDeviceGetName(Device *d, char *out, unsigned n) {
    long long value = 0;
    if (!d->instance) return gpu_text(d, "-", "Stub H100", out, n);
    instance(d, (unsigned)d->instance - 1, &value);
    snprintf(out, n, "Stub H100 MIG %lldg.%lldgb", value / 1000, value % 1000);
    return OK;
}
int nvmlDeviceGetUUID(Device *d, char *out, unsigned n) {
    if (!d->instance) return gpu_text(d, "-", "GPU-stub-%d", out, n);
    snprintf(out, n, "MIG-stub-%d-%d", d->index, d->instance - 1);
    return OK;
}
int nvmlDeviceGetSerial(Device *d, char *out, unsigned n) { return gpu_text(d, "-", "S%d", out, n); }
int nvmlDeviceGetVbiosVersion(Device *d, char *out, unsigned n) { return gpu_text(d, "-", "96.00.%d", out, n); }
int nvmlDeviceGetTemperature(Device *d, unsigned sensor, unsigned *out) { (void)sensor; return gpu_uint(d, "temperature", out); }
int nvmlDeviceGetTemperatureThreshold(Device *d, unsigned which, unsigned *out) {
    return gpu_uint(d, which == 2 ? "memory_temperature_max" : "temperature_max", out);
}
int nvmlDeviceGetPowerUsage(Device *d, unsigned *out) { return gpu_uint(d, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(Device *d, unsigned *out) { return gpu_uint(d, "power_limit", out); }
int nvmlDeviceGetTotalEnergyConsumption(Device *d, unsigned long long *out) {
    long long value = 0;
    int result = gpu(d, "energy", &value);
    *out = (unsigned long long)value;
    return result;
}
int nvmlDeviceGetUtilizationRates(Device *d, unsigned *out) {
    int result = gpu_uint(d, "utilisation", &out[0]);
    out[1] = 0;
    return result;
}
int nvmlDeviceGetMemoryInfo(Device *d, unsigned long long *out) {
    long long total = 0, used = 0;
    int result = gpu(d, "memory_total", &total);
    if (result == OK) gpu(d, "memory_used", &used);
    out[0] = (unsigned long long)total;
    out[1] = (unsigned long long)(total - used);
    out[2] = (unsigned long long)used;
    return result;
}
int nvmlDeviceGetClockInfo(Device *d, unsigned which, unsigned *out) { (void)which; return gpu_uint(d, "clock", out); }
#ifndef NVML_STUB_OLD
int nvmlDeviceGetCurrentClocksEventReasons(Device *d, unsigned long long *out) {
    long long value = 0;
    int result = gpu(d, "clock_events", &value);
    *out = (unsigned long long)value;
    return result;
}
#endif
int nvmlDeviceGetTotalEccErrors(Device *d, unsigned kind, unsigned scope, unsigned long long *out) {
    char key[32];
    long long value = 0;
    int result;
    snprintf(key, sizeof key, "ecc.%u.%u", kind, scope);
    result = gpu(d, key, &value);
    *out = (unsigned long long)value;
    return result;
}
int nvmlDeviceGetRemappedRows(Device *d, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failed) {
    int result = gpu_uint(d, "remap.correctable", correctable);
    if (result == OK) result = gpu_uint(d, "remap.uncorrectable", uncorrectable);
    if (result == OK) result = gpu_uint(d, "remap.pending", pending);
    if (result == OK) result = gpu_uint(d, "remap.failed", failed);
    return result;
}
int nvmlDeviceGetPcieReplayCounter(Device *d, unsigned *out) { return gpu_uint(d, "pcie.replays", out); }
int nvmlDeviceGetCurrPcieLinkGeneration(Device *d, unsigned *out) { return gpu_uint(d, "pcie.generation", out); }
int nvmlDeviceGetCurrPcieLinkWidth(Device *d, unsigned *out) { return gpu_uint(d, "pcie.width", out); }
int nvmlDeviceGetNvLinkState(Device *d, unsigned link, unsigned *out) {
    char key[32];
    snprintf(key, sizeof key, "link.%u", link);
    return gpu_uint(d, key, out);
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} Pci;
int nvmlDeviceGetPciInfo_v3(Device *d, Pci *out) {
    long long ignored = 0;
    memset(out, 0, sizeof *out);
    if (gpu(d, "-", &ignored) == LOST) return LOST;
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", d->index + 1);
    return OK;
}

typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    uint32_t type, result;
    union { double d; uint32_t u; uint64_t ull; } value;
} Field;
int nvmlDeviceGetFieldValues(Device *d, int count, Field *fields) {
    for (int i = 0; i < count; i++) {
        char key[48];
        long long value = 0;
        if (fields[i].field >= 161 && fields[i].field <= 222)
            snprintf(key, sizeof key, "field.%u.%u", fields[i].field, fields[i].scope);
        else
            snprintf(key, sizeof key, "field.%u", fields[i].field);
        fields[i].result = (uint32_t)gpu(d, key, &value);
        if (fields[i].result == LOST) return LOST;
        fields[i].type = 3; /* unsigned long long */
        fields[i].value.ull = (uint64_t)value;
    }
    return OK;
}

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status;
    uint32_t clique;
    unsigned char state;
    uint32_t mask;
    unsigned char summary;
} Fabric;
int nvmlDeviceGetGpuFabricInfoV(Device *d, Fabric *out) {
    long long value = 0;
    int result = gpu(d, "fabric.state", &value);
    if (result != OK) return result;
    if (out->version != 0x3000028 || sizeof *out != 0x28) return 25;
    out->state = (unsigned char)value;
    value = 0; gpu(d, "fabric.status", &value); out->status = (unsigned)value;
    value = 0; gpu(d, "fabric.mask", &value); out->mask = (uint32_t)value;
    value = 0; gpu(d, "fabric.summary", &value); out->summary = (unsigned char)value;
    out->clique = 7;
    memset(out->cluster, 0xAB, sizeof out->cluster);
    return OK;
}

typedef struct {
    Device *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} Event;
static int set;
int nvmlEventSetCreate(void **out) { *out = &set; return OK; }
int nvmlEventSetFree(void *events) { (void)events; return OK; }
int nvmlDeviceRegisterEvents(Device *d, unsigned long long types, void *events) {
    long long ignored = 0;
    (void)types; (void)events;
    return gpu(d, "-", &ignored) == LOST ? LOST : OK;
}
/* Event n, from 1, is `node.event.<n> = <gpu> * 1000 + <XID>`; none is told twice. */
int nvmlEventSetWait_v2(void *events, Event *out, unsigned timeout_ms) {
    (void)events;
    for (unsigned waited = 0, nap;; waited += nap) {
        char key[32];
        long long value = 0;
        snprintf(key, sizeof key, "event.%lld", delivered + 1);
        refresh();
        if (look("node", key, &value)) {
            delivered++;
            memset(out, 0, sizeof *out);
            out->device = &devices[value / 1000];
            out->type = 8;
            out->data = (unsigned long long)(value % 1000);
            return OK;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        nap = timeout_ms - waited < 100 ? timeout_ms - waited : 100;
        usleep(nap * 1000);
    }
}
