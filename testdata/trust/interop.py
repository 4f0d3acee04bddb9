"""What the Python libraries of in-toto think of our attestations, and theirs.

    interop.py read ATTESTATION PUBLIC_KEY...      every key has signed it, or exit 1
    interop.py write MANIFEST FOLDER               signs a statement of the predicate on standard input, twice

`write` leaves, for each algorithm, FOLDER/NAME.dsse.json by securesystemslib,
FOLDER/NAME-in-toto.dsse.json by in-toto, and FOLDER/NAME.pub.
"""

import hashlib
import json
import pathlib
import sys

import google.protobuf.json_format as protobuf
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from in_toto.models.metadata import Envelope as InTotoEnvelope
from in_toto.models.metadata import Metadata
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:runpack:attestation:v1"


def read(attestation, *public_keys):
    text = pathlib.Path(attestation).read_text()
    keys = []
    for path in public_keys:
        public = load_pem_public_key(pathlib.Path(path).read_bytes())
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys.append(SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest()))

    envelope = Envelope.from_dict(json.loads(text))
    assert envelope.payload_type == PAYLOAD_TYPE, envelope.payload_type
    assert len(envelope.verify(keys, len(keys))) == len(keys)
    changed = Envelope.from_dict(json.loads(text))
    changed.payload += b" "
    try:
        changed.verify(keys, 1)
        sys.exit("a changed payload was taken")
    except VerificationError:
        pass

    metadata = Metadata.load(attestation)
    assert isinstance(metadata, InTotoEnvelope)
    for key in keys:
        metadata.verify_signature(key.to_dict() | {"keyid": key.keyid})

    message = protobuf.Parse(envelope.payload, StatementMessage())
    statement = Statement.copy_from_pb(message)
    statement.validate()
    assert statement.pb.predicate_type == PREDICATE_TYPE, statement.pb.predicate_type
    assert len(statement.pb.subject) == 1
    print(statement.pb.subject[0].digest["sha256"])


def write(manifest, folder):
    folder = pathlib.Path(folder)
    digest = hashlib.sha256(pathlib.Path(manifest).read_bytes()).hexdigest()
    subject = ResourceDescriptor(name="manifest.json", digest={"sha256": digest})
    statement = Statement([subject.pb], PREDICATE_TYPE, json.load(sys.stdin))
    statement.validate()
    payload = protobuf.MessageToJson(statement.pb).encode()
    for name, signer in [("ed25519", CryptoSigner.generate_ed25519()), ("p256", CryptoSigner.generate_ecdsa())]:
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(signer)
        (folder / f"{name}.dsse.json").write_text(json.dumps(envelope.to_dict(), indent=1))
        metadata = InTotoEnvelope(payload, PAYLOAD_TYPE, {})
        metadata.create_signature(signer)
        metadata.dump(str(folder / f"{name}-in-toto.dsse.json"))
        public = signer.public_key.keyval["public"]
        if name == "ed25519":
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
            public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        (folder / f"{name}.pub").write_text(public)


{"read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
