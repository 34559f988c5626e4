/* A libnvidia-ml.so.1 whose readings come from a text file, so that the real Python binding is exercised without a GPU.
 *
 * The file is named by FAKE_NVML_HOST and holds one `name value…` a line; `#` begins a comment. Lines before the first
 * `gpu` are the driver's, lines after a `gpu` are that GPU's, lines after a `slice` are those of a MIG slice of it.
 * A reading that the file does not name is NVML_ERROR_NOT_SUPPORTED. `init CODE` makes nvmlInit fail with that code;
 * `fails CODE` makes the GPU's handle fail; `lost-after N` lets a GPU answer N times and then be lost.
 * `hang SECONDS` makes nvmlInit sleep first. `nvlink NUMBER STATE REPLAY RECOVERY CRC-FLIT CRC-DATA` is one link of a
 * GPU, its counters left out where they are not supported; `nvlinks COUNT` stands for that many active links without an
 * error. `numa NODE` places a GPU; two on different nodes are a socket apart. `p2p STATUS` is told of every pair of it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { GPU_IS_LOST = 15, MOST_LINES = 128, MOST_DEVICES = 64, LINE_BYTES = 256 };

typedef unsigned int uint;
typedef unsigned long long ull;
typedef struct { char lines[MOST_LINES][LINE_BYTES]; int count, parent, answered, clocks; } Device;
typedef struct { ull total, free, used; } Memory;
typedef struct { uint version; ull total, reserved, free, used; } MemoryV2;
typedef struct { uint gpu, memory; } Utilization;
typedef struct { uint pid; ull used; uint gpu_instance, compute_instance; } ProcessInfo;
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } PciInfo;
typedef struct { unsigned char cluster[16]; uint status, clique, state; } FabricInfo;
typedef struct { uint id, scope; long long time, latency; uint type, code; union { ull whole; uint number; } value; } Field;

static Device driver, devices[MOST_DEVICES];
static int device_count, loaded, initialised;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static const char *value_of(Device *device, const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < device->count; i++)
        if (!strncmp(device->lines[i], name, length) && device->lines[i][length] == ' ')
            return device->lines[i] + length + 1;
    return NULL;
}

static void load(void) {
    const char *path = getenv("FAKE_NVML_HOST");
    FILE *file = path ? fopen(path, "r") : NULL;
    Device *current = &driver;
    char line[LINE_BYTES];
    int gpu = -1;
    memset(&driver, 0, sizeof driver);
    device_count = 0;
    while (file && fgets(line, sizeof line, file)) {
        char *text = line + strspn(line, " \t");
        text[strcspn(text, "\n")] = 0;
        if (!*text || *text == '#') continue;
        if ((!strcmp(text, "gpu") || !strcmp(text, "slice")) && device_count < MOST_DEVICES) {
            if (!strcmp(text, "gpu")) gpu = device_count;
            current = &devices[device_count++];
            memset(current, 0, sizeof *current);
            current->parent = strcmp(text, "gpu") ? gpu : -1;
        } else if (current->count < MOST_LINES) {
            strcpy(current->lines[current->count++], text);
        }
    }
    if (file) fclose(file);
}

static int answer(Device *device, const char *name, const char **value) {
    const char *limit = value_of(device, "lost-after");
    if (!initialised) return UNINITIALIZED;
    if (!device) return INVALID_ARGUMENT;
    if (limit && device->answered++ >= atoi(limit)) return GPU_IS_LOST;
    *value = value_of(device, name);
    return *value ? SUCCESS : NOT_SUPPORTED;
}

static int get_uint(Device *device, const char *name, uint *result) {
    const char *value;
    int code = answer(device, name, &value);
    if (!code) *result = strtoul(value, NULL, 0);
    return code;
}

static int get_ull(Device *device, const char *name, ull *result) {
    const char *value;
    int code = answer(device, name, &value);
    if (!code) *result = strtoull(value, NULL, 0);
    return code;
}

static int get_two(Device *device, const char *name, uint *first, uint *second) {
    const char *value;
    int code = answer(device, name, &value);
    if (!code && sscanf(value, "%u %u", first, second) != 2) return INVALID_ARGUMENT;
    return code;
}

static int get_text(Device *device, const char *name, char *result, uint size) {
    const char *value;
    int code = answer(device, name, &value);
    if (!code) snprintf(result, size, "%s", value);
    return code;
}

static Device *gpu_at(uint index) {
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent < 0 && !index--) return &devices[i];
    return NULL;
}

static int processes(Device *device, const char *name, uint *count, ProcessInfo *infos) {
    uint found = 0, room = *count;
    const char *ignored;
    int code = answer(device, "name", &ignored);
    size_t length = strlen(name);
    if (code == GPU_IS_LOST || value_of(device, "processes-hidden")) return code ? code : NOT_SUPPORTED;
    for (int i = 0; i < device->count; i++) {
        if (strncmp(device->lines[i], name, length) || device->lines[i][length] != ' ') continue;
        if (infos && found < room) {
            memset(&infos[found], 0, sizeof infos[found]);
            sscanf(device->lines[i] + length, "%u %llu", &infos[found].pid, &infos[found].used);
        }
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* The functions that the Python binding calls. */

int nvmlInitWithFlags(uint flags) {
    (void)flags;
    pthread_mutex_lock(&loading);
    if (!loaded) load();
    loaded = 1;
    pthread_mutex_unlock(&loading);
    if (value_of(&driver, "hang")) sleep(atoi(value_of(&driver, "hang")));
    if (value_of(&driver, "init")) return atoi(value_of(&driver, "init"));
    initialised = 1;
    return SUCCESS;
}

int nvmlShutdown(void) { return initialised ? SUCCESS : UNINITIALIZED; }

const char *nvmlErrorString(int code) { (void)code; return "an error"; }

int nvmlSystemGetDriverVersion(char *text, uint size) { return get_text(&driver, "driver", text, size); }
int nvmlSystemGetCudaDriverVersion(int *version) { return get_uint(&driver, "cuda", (uint *)version); }

int nvmlDeviceGetCount_v2(uint *count) {
    *count = 0;
    while (gpu_at(*count)) ++*count;
    return initialised ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(uint index, Device **handle) {
    *handle = gpu_at(index);
    if (!*handle) return INVALID_ARGUMENT;
    return value_of(*handle, "fails") ? atoi(value_of(*handle, "fails")) : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, uint *count) { return get_uint(device, "slices-max", count); }

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, uint index, Device **slice) {
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent == device - devices && !index--) {
            *slice = &devices[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetName(Device *d, char *text, uint size) { return get_text(d, "name", text, size); }
int nvmlDeviceGetUUID(Device *d, char *text, uint size) { return get_text(d, "uuid", text, size); }

int nvmlDeviceGetPciInfo_v3(Device *d, PciInfo *info) {
    memset(info, 0, sizeof *info);
    return get_text(d, "pci", info->bus_id, sizeof info->bus_id);
}

/* memory TOTAL USED FREE RESERVED, in bytes; the first form of the call counts what is reserved as used. */
int nvmlDeviceGetMemoryInfo_v2(Device *d, MemoryV2 *info) {
    const char *value;
    int code = value_of(&driver, "memory-v1-only") ? NOT_SUPPORTED : answer(d, "memory", &value);
    if (!code) sscanf(value, "%llu %llu %llu %llu", &info->total, &info->used, &info->free, &info->reserved);
    return code;
}

int nvmlDeviceGetMemoryInfo(Device *d, Memory *info) {
    const char *value;
    ull reserved = 0;
    int code = answer(d, "memory", &value);
    if (!code) {
        sscanf(value, "%llu %llu %llu %llu", &info->total, &info->used, &info->free, &reserved);
        info->used += reserved;
    }
    return code;
}

int nvmlDeviceGetCudaComputeCapability(Device *d, int *major, int *minor) {
    return get_two(d, "compute-capability", (uint *)major, (uint *)minor);
}
int nvmlDeviceGetMigMode(Device *d, uint *now, uint *next) { return get_two(d, "mig", now, next); }
int nvmlDeviceGetEccMode(Device *d, uint *now, uint *next) { return get_two(d, "ecc", now, next); }

int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, uint *count, ProcessInfo *infos) {
    return processes(d, "compute", count, infos);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *d, uint *count, ProcessInfo *infos) {
    return processes(d, "graphics", count, infos);
}

int nvmlDeviceGetTemperature(Device *d, uint sensor, uint *celsius) {
    return sensor ? NOT_SUPPORTED : get_uint(d, "temperature", celsius);
}
int nvmlDeviceGetTemperatureThreshold(Device *d, uint kind, uint *celsius) {
    return get_uint(d, kind == 0 ? "shutdown-at" : kind == 1 ? "slowdown-at" : "-", celsius);
}
typedef struct { uint version; int margin; } Margin;
int nvmlDeviceGetMarginTemperature(Device *d, Margin *info) { return get_uint(d, "margin", (uint *)&info->margin); }
int nvmlDeviceGetPowerUsage(Device *d, uint *milliwatts) { return get_uint(d, "power-mw", milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(Device *d, uint *milliwatts) { return get_uint(d, "power-limit-mw", milliwatts); }
/* sm-clock MHZ…: each look at it gives the next, and after the last the first again. */
int nvmlDeviceGetClockInfo(Device *d, uint kind, uint *mhz) {
    const char *value;
    int given = 1, code = answer(d, kind == 1 ? "sm-clock" : "-", &value);
    if (code) return code;
    for (const char *space = value; (space = strchr(space, ' ')); space++) given++;
    for (int skip = d->clocks++ % given; skip; skip--) value = strchr(value, ' ') + 1;
    *mhz = strtoul(value, NULL, 0);
    return SUCCESS;
}
int nvmlDeviceGetMaxClockInfo(Device *d, uint kind, uint *mhz) {
    return get_uint(d, kind == 1 ? "max-sm-clock" : "-", mhz);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *d, ull *reasons) { return get_ull(d, "throttle", reasons); }
int nvmlDeviceGetPerformanceState(Device *d, uint *state) { return get_uint(d, "pstate", state); }
int nvmlDeviceGetUtilizationRates(Device *d, Utilization *use) {
    return get_two(d, "utilization", &use->gpu, &use->memory);
}
int nvmlDeviceGetPersistenceMode(Device *d, uint *mode) { return get_uint(d, "persistence", mode); }

int nvmlDeviceGetTotalEccErrors(Device *d, uint type, uint counter, ull *count) {
    const char *names[2][2] = {{"ecc-corrected-volatile", "ecc-corrected-aggregate"},
                               {"ecc-uncorrected-volatile", "ecc-uncorrected-aggregate"}};
    return type > 1 || counter > 1 ? INVALID_ARGUMENT : get_ull(d, names[type][counter], count);
}

/* remapped CORRECTED UNCORRECTED PENDING FAILED */
int nvmlDeviceGetRemappedRows(Device *d, uint *corrected, uint *uncorrected, uint *pending, uint *failed) {
    const char *value;
    int code = answer(d, "remapped", &value);
    if (!code) sscanf(value, "%u %u %u %u", corrected, uncorrected, pending, failed);
    return code;
}
int nvmlDeviceGetRetiredPagesPendingStatus(Device *d, uint *pending) { return get_uint(d, "retirement-pending", pending); }

int nvmlDeviceGetCurrPcieLinkGeneration(Device *d, uint *generation) { return get_uint(d, "pcie-gen", generation); }
int nvmlDeviceGetMaxPcieLinkGeneration(Device *d, uint *generation) { return get_uint(d, "pcie-gen-max", generation); }
int nvmlDeviceGetCurrPcieLinkWidth(Device *d, uint *width) { return get_uint(d, "pcie-width", width); }
int nvmlDeviceGetMaxPcieLinkWidth(Device *d, uint *width) { return get_uint(d, "pcie-width-max", width); }

int nvmlDeviceGetVbiosVersion(Device *d, char *text, uint size) { return get_text(d, "vbios", text, size); }
int nvmlDeviceGetPowerManagementDefaultLimit(Device *d, uint *milliwatts) {
    return get_uint(d, "power-limit-default-mw", milliwatts);
}
int nvmlDeviceGetComputeMode(Device *d, uint *mode) { return get_uint(d, "compute-mode", mode); }

/* Played are field 230, the recovery action, and field 215, the recoveries of one link: `recoveries-LINK COUNT`. */
int nvmlDeviceGetFieldValues(Device *d, int count, Field *fields) {
    const char *value;
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, fields[i].id == 215 ? "recoveries-%u" : "-", fields[i].scope);
        int code = answer(d, fields[i].id == 230 ? "recovery-action" : name, &value);
        if (code == GPU_IS_LOST) return code;
        fields[i].code = code;
        fields[i].value.whole = code ? 0 : strtoull(value, NULL, 0);
    }
    return SUCCESS;
}

static int link_values(Device *d, uint link, uint values[5]) {
    const char *value;
    uint number;
    int code = answer(d, "nvlinks", &value);
    if (code == GPU_IS_LOST || code == UNINITIALIZED) return code;
    memset(values, 0, 5 * sizeof *values);
    for (int i = 0; i < d->count; i++)
        if (!strncmp(d->lines[i], "nvlink ", 7) && sscanf(d->lines[i] + 7, "%u", &number) == 1 && number == link)
            return sscanf(d->lines[i] + 7, "%u %u %u %u %u %u", &number, &values[0], &values[1], &values[2], &values[3],
                          &values[4]) + 99;
    if (code) return NOT_SUPPORTED;
    values[0] = link < strtoul(value, NULL, 0);
    return values[0] ? 105 : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkState(Device *d, uint link, uint *state) {
    uint values[5];
    int code = link_values(d, link, values);
    *state = values[0];
    return code > 99 ? SUCCESS : code;
}
int nvmlDeviceGetNvLinkErrorCounter(Device *d, uint link, uint counter, ull *count) {
    uint values[5];
    int code = link_values(d, link, values);
    if (code > 99 && (counter > 3 || code < 105)) return NOT_SUPPORTED;
    *count = values[counter + 1];
    return code > 99 ? SUCCESS : code;
}

/* fabric STATE STATUS */
int nvmlDeviceGetGpuFabricInfo(Device *d, FabricInfo *info) {
    memset(info, 0, sizeof *info);
    return get_two(d, "fabric", &info->state, &info->status);
}

int nvmlDeviceGetTopologyCommonAncestor(Device *one, Device *other, uint *level) {
    uint here, there;
    int code = get_uint(one, "numa", &here);
    if (!code) code = get_uint(other, "numa", &there);
    if (!code) *level = here == there ? 40 : 50;
    return code;
}
int nvmlDeviceGetP2PStatus(Device *one, Device *other, uint index, uint *status) {
    (void)other;
    (void)index;
    return get_uint(one, "p2p", status);
}
