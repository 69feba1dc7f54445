"""NVIDIA cards behind the driver's own library: memory, kernels, and why a card cannot be used."""

import ctypes

import numpy as np

from protocol.engine.cuda.card_queue import CardError, CJob
from protocol.engine.cuda.nvrtc import kernels

THREADS = 128  # of a block: lanes_cuda.h's BLOCK_THREADS
KERNELS = ("exact_train", "exact_measure", "exact_scratch")
CLOCK_KHZ, MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR = 13, 16, 75, 76  # numbers of device attributes
BLOCKING_SYNC = 4  # a thread that waits for the card leaves its core to others
FREE_SHARE_MAX = 0.95  # of what is free now: others grow too
OUT_OF_MEMORY, NO_DEVICE, NOT_FOR_THIS_GPU, INVALID_IMAGE, UNSUPPORTED_PTX = 2, 100, 209, 200, 222


class NoCard(CardError):
    """There is no NVIDIA driver or card here: nothing is wrong."""


def open_cards(device: str, memory: float) -> "list[NvidiaCard]":
    """`device` is cuda or all (every card), or cuda:N; `memory` is the share of a card to use. Raises CardError."""
    driver = Driver()
    if device in ("all", "cuda", "auto"):
        numbers = list(range(driver.count))
    else:
        number = device.removeprefix("cuda:")
        if not number.isdigit() or int(number) >= driver.count:
            raise CardError(f"{device}: this computer has {driver.count} CUDA cards, counted from 0")
        numbers = [int(number)]
    return [NvidiaCard(driver, number, memory) for number in numbers]


class Driver:
    """libcuda, which comes with the driver and with nothing else."""

    def __init__(self) -> None:
        try:
            self.c = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise NoCard("no NVIDIA driver") from None
        code = self.c.cuInit(0)
        if code == NO_DEVICE:
            raise NoCard("no NVIDIA card")
        self.check(code, "cuInit")
        version, count = ctypes.c_int(), ctypes.c_int()
        self.check(self.c.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
        self.check(self.c.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
        self.major, self.minor, self.count = version.value // 1000, version.value % 1000 // 10, count.value
        if not self.count:
            raise NoCard("no NVIDIA card")

    def check(self, code: int, what: str) -> None:
        """Raises CardError with the driver's own words."""
        if not code:
            return
        if code in (NOT_FOR_THIS_GPU, INVALID_IMAGE, UNSUPPORTED_PTX):
            raise CardError(
                f"the driver (CUDA {self.major}.{self.minor}) does not load the kernels; update it, or install "
                "the NVRTC of its version (nvidia-cuda-nvrtc-cu12 for CUDA 12)"
            )
        text = ctypes.c_char_p()
        self.c.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else f"error {code}"
        raise CardError(f"{what}: {said}" + ("; try a smaller --gpu-memory" if code == OUT_OF_MEMORY else ""))


class NvidiaCard:
    """One card, its primary context, and the kernels of exact.cu."""

    def __init__(self, driver: Driver, number: int, memory: float):
        self._driver, c = driver, driver.c
        device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        driver.check(c.cuDeviceGet(ctypes.byref(device), number), "cuDeviceGet")
        self._device = device
        self._sizes: dict[int, int] = {}  # of what is allocated now, by address
        self.peak_bytes = 0
        text = ctypes.create_string_buffer(100)
        driver.check(c.cuDeviceGetName(text, 100, device), "cuDeviceGetName")
        self.model = text.value.decode(errors="replace")
        architecture = 10 * self.attribute(CAPABILITY_MAJOR) + self.attribute(CAPABILITY_MINOR)
        self.name = f"sm_{architecture}"
        c.cuDevicePrimaryCtxSetFlags_v2(device, BLOCKING_SYNC)  # refused where it is in use already: no harm
        driver.check(c.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
        self._context = context
        self._enter()
        code = kernels(architecture, driver.major)
        driver.check(c.cuModuleLoadData(ctypes.byref(module), code), "cuModuleLoadData")
        self._kernels = {}
        for name in KERNELS:
            function = ctypes.c_void_p()
            driver.check(c.cuModuleGetFunction(ctypes.byref(function), module, name.encode()), "cuModuleGetFunction")
            self._kernels[name] = function
        each = ctypes.c_int()
        driver.check(
            c.cuOccupancyMaxActiveBlocksPerMultiprocessor(
                ctypes.byref(each), self._kernels["exact_train"], THREADS, ctypes.c_size_t(0)
            ),
            "cuOccupancyMaxActiveBlocksPerMultiprocessor",
        )
        self.blocks = max(1, each.value) * self.attribute(MULTIPROCESSORS)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        driver.check(c.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "cuMemGetInfo")
        self.memory_bytes = int(min(memory * total.value, FREE_SHARE_MAX * free.value))

    def allocate(self, size: int) -> int:
        self._enter()
        address = ctypes.c_uint64()
        self._driver.check(
            self._driver.c.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(size, 1))), "cuMemAlloc"
        )
        self._sizes[address.value] = size
        self.peak_bytes = max(self.peak_bytes, sum(self._sizes.values()))
        return address.value

    def free(self, address: int) -> None:
        self._sizes.pop(address, None)
        self._enter()
        self._driver.check(self._driver.c.cuMemFree_v2(ctypes.c_uint64(address)), "cuMemFree")

    def upload(self, address: int, array: np.ndarray) -> None:
        self._enter()
        code = self._driver.c.cuMemcpyHtoD_v2(
            ctypes.c_uint64(address), array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes)
        )
        self._driver.check(code, "cuMemcpyHtoD")

    def download(self, address: int, array: np.ndarray) -> None:
        self._enter()
        code = self._driver.c.cuMemcpyDtoH_v2(
            array.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes)
        )
        self._driver.check(code, "cuMemcpyDtoH")

    def launch(self, kernel: str, job: CJob, blocks: int) -> None:
        self._enter()
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(job))
        code = self._driver.c.cuLaunchKernel(
            self._kernels[kernel], *(ctypes.c_uint(n) for n in (blocks, 1, 1, THREADS, 1, 1, 0)), None, arguments, None
        )
        self._driver.check(code, kernel)
        self._driver.check(self._driver.c.cuCtxSynchronize(), kernel)

    def _enter(self) -> None:
        """The context belongs to a thread; calls come from several."""
        self._driver.check(self._driver.c.cuCtxSetCurrent(self._context), "cuCtxSetCurrent")

    def attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._driver.check(self._driver.c.cuDeviceGetAttribute(ctypes.byref(value), number, self._device), "attribute")
        return value.value
