"""What a template may say here, and what is said to one that may not."""

from typing import Any

import pytest

from tests.emulator.cloudformation.conftest import TEMPLATE, Named, listed

ROLE = """
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: sagemaker.amazonaws.com}
            Action: sts:AssumeRole
"""
POLICY = """
      Policies:
        - PolicyName: one
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/*"}]
"""


def resource(text: str) -> str:
    return TEMPLATE.replace("Outputs:", text.lstrip("\n") + "Outputs:", 1)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"Count": "0"}, "Parameter 'Count' must be a number not less than 1"),
        ({"Count": "6"}, "Parameter 'Count' must be a number not greater than 5"),
        ({"Count": "many"}, "Parameter 'Count' must be a number"),
        ({"Scaled": "perhaps"}, "Parameter 'Scaled' must be one of AllowedValues: yes, no"),
        ({"Colour": "red"}, "Parameters: [Colour] do not exist in the template"),
    ],
)
def test_wrong_parameters(parameters: dict[str, str], said: str, stack: Named) -> None:
    assert said in stack.refused("start", **parameters)
    assert stack.hosted() == []


@pytest.mark.parametrize(
    ("declaration", "value", "said"),
    [
        ("{Type: String}", None, "Parameters: [P] must have values"),
        ("{Type: String, MinLength: 2}", "a", "must contain at least 2 characters"),
        ("{Type: String, MaxLength: 2}", "abc", "must contain at most 2 characters"),
        ("{Type: String, AllowedPattern: '[a-z]+'}", "A", "must match pattern [a-z]+"),
        (
            "{Type: String, AllowedPattern: a, ConstraintDescription: only a}",
            "b",
            "Parameter P failed to satisfy constraint: only a",
        ),
        ("{Type: CommaDelimitedList, AllowedValues: [a, b]}", "a, c", "one of AllowedValues: a, b"),
        ("{Type: 'AWS::SSM::Parameter::Value<String>'}", "a", "of parameter P is not available"),
    ],
)
def test_declarations(declaration: str, value: str | None, said: str, stack: Named) -> None:
    template = TEMPLATE.replace("Parameters:", f"Parameters:\n  P: {declaration}", 1)
    given = {} if value is None else {"P": value}
    assert said in stack.refused("start", template, **given)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Resources: {a: b: c", "YAML not well-formed"),
        ("Resources: {A: {Type: a}, A: {Type: b}}", "Duplicate"),
        ("just words", "unsupported structure"),
        ("Description: nothing", "At least one Resources member must be defined."),
        ("Resources: {A: {Type: 'AWS::Lambda::Function'}}", "types: [AWS::Lambda::Function]"),
        (TEMPLATE + "\nTransform: AWS::Serverless-2016-10-31", "Section Transform"),
        (TEMPLATE.replace("!Ref Image", "!ImportValue Image"), "Function Fn::ImportValue"),
        (
            TEMPLATE.replace("!Ref Image", "!Ref Picture"),
            "Unresolved resource dependencies [Picture]",
        ),
        (TEMPLATE.replace("!Sub endpoint/${Endpoint.", "!Sub endpoint/${X."), "dependencies [X]"),
        (TEMPLATE.replace("Condition: IsScaled", "Condition: Big"), "condition dependency Big"),
        (
            TEMPLATE.replace("  Model:\n", "  Model:\n    DependsOn: Nobody\n"),
            "dependencies [Nobody]",
        ),
        (
            TEMPLATE.replace("  Model:\n", "  Model:\n    DependsOn: Config\n"),
            "Circular dependency",
        ),
        (TEMPLATE.replace("  Model:\n", "  Model:\n    CreationPolicy: {}\n"), "CreationPolicy"),
    ],
)
def test_templates_that_are_refused(template: str, said: str, stack: Named) -> None:
    assert said in stack.refused("start", template)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "Mode: MultiModel",
            "Mode: MultiModel\n        Colour: red",
            "unsupported property Colour",
        ),
        (
            "EndpointName: !Ref",
            "Colour: red\n      EndpointName: !Ref",
            "unsupported property Colour",
        ),
        ("!Ref Count", "several", "must be of type integer, not 'several'"),
        ("Config.EndpointConfigName", "Config.Colour", "does not support attribute Colour"),
        ("      EndpointConfigName: !GetAtt Config.EndpointConfigName\n", "", "cannot be empty"),
        ("s3://bucket/models/", "s3://bucket/a.tar.gz", "is one archive"),
    ],
)
def test_mistakes_in_properties_fail_the_stack(
    before: str, after: str, said: str, stack: Named
) -> None:
    """They show when it is their resource's turn; what was made until then is deleted again."""
    assert stack.fails("create", TEMPLATE.replace(before, after, 1)) == "ROLLBACK_COMPLETE"
    told = [event for name in ("Model", "Config", "Endpoint") for event in stack.events(name)]
    assert said in "".join(told)
    assert stack.hosted() == []


def test_roles_have_to_be_acknowledged(client: Any) -> None:
    with pytest.raises(client.exceptions.InsufficientCapabilitiesException, match="CAPABILITY_IAM"):
        client.create_stack(StackName="with-role", TemplateBody=resource(ROLE))


def test_a_role_follows_its_template(stack: Named) -> None:
    template = resource(ROLE + POLICY.lstrip("\n"))
    stack.create(template)
    iam = stack.aws.client("iam")
    role = stack.resources["Role"]
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["one"]
    stack.update(template.replace("PolicyName: one", "PolicyName: two"))
    assert stack.resources["Role"] == role
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["two"]
    stack.delete()
    assert role not in [r["RoleName"] for r in iam.list_roles()["Roles"]]


EXPRESSIONS = {
    "!Join ['-', [a, !Ref Count, !Ref 'AWS::NoValue', b]]": "a-1-b",
    "!Select [1, !Split [':', 'a:b:c']]": "b",
    "!Select [1, !Ref Items]": "y",
    "!Sub '${Count} of ${!Count} in ${AWS::Region}'": "1 of ${Count} in us-east-1",
    "!Sub ['${X}${Count}', {X: !Ref Scaled}]": "no1",
    "!FindInMap [Sizes, !Ref Scaled, Size]": "small",
    "!If [IsScaled, a, !If [Both, b, c]]": "c",
    "!If [Either, !Ref 'AWS::AccountId', b]": "123456789012",
    "{'Fn::GetAtt': Model.ModelName}": "stack",
}
SECTIONS = """
Parameters:
  Items: {Type: CommaDelimitedList, Default: "x, y"}
"""
CONDITIONS = """
Conditions:
  Both: !And [Condition: IsScaled, Condition: IsSmall]
  Either: !Or [Condition: IsScaled, !Not [Condition: IsScaled]]
  IsSmall: !Equals [!Ref Count, 1]
"""
MAPPINGS = "Mappings:\n  Sizes: {'no': {Size: small}, 'yes': {Size: large}}\n"


def test_functions(stack: Named) -> None:
    template = TEMPLATE.replace("Parameters:\n", SECTIONS.lstrip(), 1)
    template = template.replace("Conditions:\n", CONDITIONS.lstrip(), 1) + MAPPINGS
    outputs = [f"  O{n}: {{Value: {e}}}\n" for n, e in enumerate(EXPRESSIONS)]
    stack.create(template.replace("Outputs:\n", "Outputs:\n" + "".join(outputs)))
    for number, (expression, value) in enumerate(EXPRESSIONS.items()):
        assert stack.outputs[f"O{number}"].startswith(value), expression
    stack.delete()


def test_json_is_a_template_too(stack: Named, client: Any) -> None:
    body = '{"Resources": {"M": {"Type": "AWS::SageMaker::Model", "Properties": {"Tags": []}}}}'
    assert client.validate_template(TemplateBody=body)["Parameters"] == []
    assert stack.fails("create", body) == "ROLLBACK_COMPLETE"


def test_validation_tells_what_is_asked_for(client: Any) -> None:
    told = client.validate_template(TemplateBody=resource(ROLE))
    assert told["Capabilities"] == ["CAPABILITY_IAM"]
    assert {p["ParameterKey"] for p in told["Parameters"]} == {"Image", "Count", "Scaled"}
    summary = client.get_template_summary(TemplateBody=TEMPLATE)
    assert {p["ParameterKey"]: p["ParameterType"] for p in summary["Parameters"]} == {
        "Image": "String",
        "Count": "Number",
        "Scaled": "String",
    }
    assert "AWS::SageMaker::Model" in summary["ResourceTypes"]


@pytest.mark.parametrize("member", ["RoleARN", "TemplateURL"])
def test_what_is_not_here_is_said(member: str, stack: Named) -> None:
    value = "arn:aws:iam::123456789012:role/x" if member == "RoleARN" else "https://bucket/key"
    assert f"{member} is not available here" in stack.refused("start", options={member: value})


def test_change_sets(stack: Named, client: Any) -> None:
    """As `aws cloudformation deploy` uses them: for a new stack, for an update, and for nothing new."""

    def prepared(name: str, kind: str, **parameters: str) -> Any:
        client.create_change_set(
            StackName=stack.name,
            ChangeSetName=name,
            ChangeSetType=kind,
            TemplateBody=TEMPLATE,
            Parameters=listed(parameters),
        )
        return client.describe_change_set(StackName=stack.name, ChangeSetName=name)

    first = prepared("first", "CREATE")
    assert (first["Status"], first["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert {c["ResourceChange"]["Action"] for c in first["Changes"]} == {"Add"}
    assert stack.described["StackStatus"] == "REVIEW_IN_PROGRESS"
    client.execute_change_set(StackName=stack.name, ChangeSetName="first")
    stack.wait("stack_create_complete")
    prepared("second", "UPDATE", Count="2")
    client.execute_change_set(StackName=stack.name, ChangeSetName="second")
    stack.wait("stack_update_complete")
    assert stack.endpoint()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    same = prepared("third", "UPDATE", Count="2")
    assert same["Status"] == "FAILED"
    assert same["StatusReason"].startswith("The submitted information didn't contain changes.")
    stack.delete()
