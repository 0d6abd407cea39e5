import json

from entrepot.oci.error_body import ErrorCode, error_body


def test_the_body_is_what_clients_print() -> None:
    assert json.loads(error_body(ErrorCode.DENIED, 'a "quoted" reason')) == {
        "errors": [{"code": "DENIED", "message": 'a "quoted" reason'}]
    }
