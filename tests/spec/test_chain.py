"""ChainIDs, by the specification's own vectors."""

from __future__ import annotations

from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest


def test_the_vectors_of_the_specifications_own_test() -> None:
    layers = [Digest("sha256", letter) for letter in "abc"]

    assert [str(each) for each in chain_ids(layers)] == [
        "sha256:a",
        "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8",
        "sha256:dee159b33409cefa3f6eda71539f006014283e9d9130c18a1dea7bd8a33c9b1b",
    ]


def test_the_example_of_config_md() -> None:
    layers = [
        Digest.parse("sha256:c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1"),
        Digest.parse("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"),
    ]

    expected = "sha256:c3191d32a37d7159b2e30830937d2e30268ad6c375a773a8994911a3aba9b93f"
    assert str(chain_ids(layers)[-1]) == expected


def test_no_layers_make_no_chain() -> None:
    assert chain_ids([]) == ()


def test_the_same_layer_over_another_one_has_another_chain_id() -> None:
    one, two, three = (Digest.of(letter) for letter in (b"1", b"2", b"3"))

    assert chain_ids([one, three])[-1] != chain_ids([two, three])[-1]


def test_the_chain_of_one_layer_is_its_diff_id_in_its_own_algorithm() -> None:
    layer = Digest.of(b"", "sha512")

    assert chain_ids([layer]) == (layer,)
    assert chain_ids([layer, layer])[1].algorithm == "sha256"
