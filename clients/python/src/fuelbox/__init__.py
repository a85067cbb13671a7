"""Client of fuelbox: paid jobs of machine-learning models, with receipts that are checked.

`Client` runs jobs. `verify` and `verify_proof` check what a host signed, and need no host.
"""

from .answers import Inference, Job
from .client import Client
from .digests import digest_of_inputs, digest_of_outputs, digest_of_parameters
from .errors import (
    BadTensor,
    Bill,
    BusyError,
    FuelboxError,
    ModelError,
    NoAnswer,
    PaymentError,
    Unproven,
)
from .keys import KeyRing
from .log import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    verify_checkpoint,
    verify_consistency,
    verify_proof,
)
from .package import identity, sign
from .receipt import Envelope, Receipt, Usage, verify
from .uploads import UploadBroken

__all__ = [
    "BadTensor",
    "Bill",
    "BusyError",
    "Checkpoint",
    "Client",
    "ConsistencyProof",
    "Envelope",
    "FuelboxError",
    "InclusionProof",
    "Inference",
    "Job",
    "KeyRing",
    "ModelError",
    "NoAnswer",
    "PaymentError",
    "Receipt",
    "Unproven",
    "UploadBroken",
    "Usage",
    "digest_of_inputs",
    "digest_of_outputs",
    "digest_of_parameters",
    "identity",
    "sign",
    "verify",
    "verify_checkpoint",
    "verify_consistency",
    "verify_proof",
]
