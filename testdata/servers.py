#!/usr/bin/env python3
"""Waits for the servers of `just servers` and makes a bucket `packs` in each.

    servers.py MOTO_PORT AZURITE_PORT S3RVER_PORT

Prints the key and the secret of a user of moto. boto3 comes with moto.
"""

import base64
import datetime
import hashlib
import hmac
import json
import socket
import sys
import time
import urllib.request

import boto3


def wait(port):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing listens at port {port}")


def moto(port):
    def client(service, key="free", secret="free"):
        at = f"http://127.0.0.1:{port}"
        return boto3.client(service, endpoint_url=at, region_name="us-east-1",
                            aws_access_key_id=key, aws_secret_access_key=secret)

    iam = client("iam")
    iam.create_user(UserName="runpack")
    key = iam.create_access_key(UserName="runpack")["AccessKey"]
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="runpack", PolicyName="s3", PolicyDocument=json.dumps(allowed))
    client("s3", key["AccessKeyId"], key["SecretAccessKey"]).create_bucket(Bucket="packs")
    return f"{key['AccessKeyId']} {key['SecretAccessKey']}"


def azurite(port):
    # Everybody's key of the emulator, as its documentation has it.
    account = "devstoreaccount1"
    key = base64.b64decode(
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    signed = "PUT" + "\n" * 12 + headers + f"/{account}/{account}/packs\nrestype:container"
    signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{account}/packs?restype=container", method="PUT",
        headers={"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
                 "Authorization": f"SharedKey {account}:{signature}"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


ports = [int(port) for port in sys.argv[1:]]
for port in ports:
    wait(port)
azurite(ports[1])
print(moto(ports[0]))
