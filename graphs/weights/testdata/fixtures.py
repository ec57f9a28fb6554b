"""Writes the test files beside it. Made with Python 3.11.7, NumPy and safetensors
of the versions it prints; PyTorch is not needed: its two file formats are written
here by pickle and zipfile, following torch/serialization.py.

    pip install numpy safetensors && python3 fixtures.py
"""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import safetensors
import safetensors.numpy

print("numpy", np.__version__, "safetensors", safetensors.__version__)

# Stand-ins, which pickle writes by name only.
torch, utils, models = (types.ModuleType(n) for n in ("torch", "torch._utils", "models"))
sys.modules.update({"torch": torch, "torch._utils": utils, "models": models})


def define(module, name, base=object):
    cls = type(name, (base,), {"__module__": module.__name__})
    setattr(module, name, cls)
    return cls


CODES = {"Float": "<f", "Half": "<e", "Double": "<d", "Long": "<q", "Int": "<i", "Short": "<h",
         "Char": "<b", "Byte": "<B", "Bool": "<?", "BFloat16": "<H"}
for kind in CODES:
    define(torch, kind + "Storage")


def _rebuild_tensor_v2(*args): ...
def _rebuild_parameter(*args): ...


for f in (_rebuild_tensor_v2, _rebuild_parameter):
    f.__module__, f.__qualname__ = "torch._utils", f.__name__
    setattr(utils, f.__name__, f)


class Storage:
    def __init__(self, kind, values, view=None):
        self.kind, self.values, self.view = kind, values, view

    def data(self):
        return b"".join(struct.pack(CODES[self.kind], v) for v in self.values)


class Tensor:
    def __init__(self, storage, shape, stride=None, offset=0):
        if stride is None:
            stride, n = [], 1
            for d in reversed(shape):
                stride.insert(0, n)
                n *= d
        self.args = (storage, offset, tuple(shape), tuple(stride), False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.args


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return _rebuild_parameter, (self.tensor, True, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.storages, self.legacy = [], legacy

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            self.storages.append(obj)
        id = ("storage", getattr(torch, obj.kind + "Storage"), str(self.storages.index(obj)), "cpu", len(obj.values))
        return id + (obj.view,) if self.legacy else id


def save_zip(name, obj, protocol=2):
    program = io.BytesIO()
    p = Pickler(program, protocol, legacy=False)
    p.dump(obj)
    with zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as z:
        def put(member, data):
            z.writestr(zipfile.ZipInfo("archive/" + member), data)
        put("data.pkl", program.getvalue())
        put("byteorder", b"little")
        for i, s in enumerate(p.storages):
            put(f"data/{i}", s.data())
        put("version", b"3\n")


def save_legacy(name, obj, protocol=2):
    with open(name, "wb") as f:
        pickle.dump(0x1950A86A20F9469CFC6C, f, protocol)
        pickle.dump(1001, f, protocol)
        pickle.dump({"protocol_version": 1001, "little_endian": True,
                     "type_sizes": {"short": 2, "int": 4, "long": 4}}, f, protocol)
        p = Pickler(f, protocol, legacy=True)
        p.dump(obj)
        pickle.dump([str(i) for i in range(len(p.storages))], f, protocol)
        for s in p.storages:
            f.write(struct.pack("<q", len(s.values)) + s.data())


def state_dict():
    shared = Storage("Float", [-1, -0.5, 0, 0.5, 1, 1.5])
    d = collections.OrderedDict()
    d["conv.weight"] = Parameter(Tensor(shared, [2, 3]))
    d["transposed"] = Tensor(shared, [3, 2], [1, 3])
    d["tail"] = Tensor(shared, [3], offset=3)
    d["column"] = Tensor(shared, [2], [3], offset=1)
    d["half"] = Tensor(Storage("Half", [1.5, -2, 65504, 2**-24]), [4])
    d["bfloat16"] = Tensor(Storage("BFloat16", [0x3FC0, 0xC000]), [2])  # 1.5, -2
    d["double"] = Tensor(Storage("Double", [0.1]), [1, 1])
    d["step"] = Tensor(Storage("Long", [-7]), [])
    d["int"] = Tensor(Storage("Int", [-3, 4]), [2])
    d["short"] = Tensor(Storage("Short", [-300]), [1])
    d["char"] = Tensor(Storage("Char", [-5]), [1])
    d["byte"] = Tensor(Storage("Byte", [250]), [1])
    d["bool"] = Tensor(Storage("Bool", [True, False]), [2])
    d["empty"] = Tensor(Storage("Float", []), [0, 3])
    d._metadata = collections.OrderedDict({"": {"version": 1}})
    return d


for protocol in (2, 4):
    save_zip(f"state_proto{protocol}.pth", state_dict(), protocol)
for protocol in (1, 2, 4):
    save_legacy(f"state_legacy_proto{protocol}.pth", state_dict(), protocol)

one = lambda *v: Tensor(Storage("Float", v), [len(v)])
weights = collections.OrderedDict({"module.a": one(1, 2), "module.b": one(3)})
save_zip("checkpoint.pth", {"epoch": 3, "args": define(models, "Options")(), "state_dict": weights,
                            "optimizer": {"state": {0: {"momentum_buffer": one(9)}}}})
save_zip("nested.pth", {"encoder": {"w": one(1)}, "banks": [one(2), (one(3),)], 5: one(4), "lr": 0.1})
save_legacy("view.pth", {"v": Tensor(Storage("Float", [0, 1, 2, 3, 4, 5], ("9", 2, 3)), [2], offset=1)})
net = define(models, "Net")()
net.weight = one(1)
save_zip("model.pth", net)

x = np.array([[-1, -0.5, 0], [0.5, 1, 1.5]], np.float32)
arrays = {"a/weight": x, "fortran": np.asfortranarray(x), "big": x.astype(">f4"), "half": x.astype(np.float16),
          "double": x.astype(np.float64), "step": np.int64(-7), "bool": np.array([True, False]),
          "cube": np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4)), "empty": np.zeros((0, 3), np.uint8)}
np.savez("plain.npz", **arrays)
np.savez_compressed("compressed.npz", **arrays)
np.save("single.npy", x)
np.savez("objects.npz", words=np.array(["a", None], object))
safetensors.numpy.save_file({"weight": x, "half": x.astype(np.float16), "step": np.array(-7, np.int64),
                             "bool": np.array([True, False]), "empty": np.zeros((0, 3), np.uint8)},
                            "reference.safetensors", {"made": "by safetensors"})
